"""The net of a fit, put together from the parameters."""

from torch import nn

__all__ = ["carry_over"]


def carry_over(old: nn.Module, new: nn.Module) -> None:
    try:
        new.load_state_dict(old.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the weights of the previous fit, but the network is a "
            f"different one now. Set warm_start=False, or module and net back. ({error})"
        ) from None
