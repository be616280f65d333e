"""Loss modules from the values of the parameter ``loss``."""

import copy
from typing import TypeAlias

from torch import nn

from skimbal.losses.mixed import MixedLoss
from skimbal.losses.modules import ModuleLoss
from skimbal.losses.terms import TERMS, LossMix
from skimbal.typing import ArrayLike

__all__ = ["LossSpec", "get_loss"]

#: Values of ``loss=``: a name or an expression, a mix, a module or its class.
LossSpec: TypeAlias = str | LossMix | nn.Module | type[nn.Module]


def get_loss(spec: LossSpec, class_counts: ArrayLike | None = None) -> MixedLoss | ModuleLoss:
    """Make a loss module from a value of the parameter ``loss`` of the classifiers.

    Parameters
    ----------
    spec : str, LossMix, Module or Module class
        A name (``"ce"``, ``"wce"``, ``"focal"``, ``"f1"``, ``"mcc"``, ``"la"``,
        ``"balanced_softmax"``, ``"ldam"``, ``"cb"``, ``"cb_focal"``, ``"drw"``, ``"ldam_drw"``), an
        expression of terms joined by ``+``, each with an optional factor (``"ce + 0.5*mcc"``), a
        :class:`~skimbal.LossMix`, a module that maps (logits, target) to a scalar (it is
        deep-copied), or its class.
        :data:`~skimbal.losses.TERMS` has all names.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples. All terms need it but
        ``"ce"``, ``"focal"``, ``"f1"`` and ``"mcc"``.

    Returns
    -------
    loss : MixedLoss or ModuleLoss
        A :class:`~skimbal.losses.ModuleLoss` around modules that are not a :class:`MixedLoss`.

    Raises
    ------
    ValueError
        If a term is unknown or named twice, the expression is malformed, a factor is negative, not
        finite or above 1e18, all factors are zero or below 1e-9, an option is out of range, or
        class counts are missing.
    TypeError
        If ``spec`` has another type.

    Examples
    --------
    >>> from skimbal.losses import get_loss
    >>> get_loss("ce + 0.5*mcc")
    MixedLoss(ce + 0.5*mcc)
    """
    if isinstance(spec, str):
        return MixedLoss(LossMix.from_expression(spec), class_counts)
    if isinstance(spec, LossMix):
        return MixedLoss(spec, class_counts)  # type: ignore[arg-type]
    module: object = spec
    if isinstance(spec, type) and issubclass(spec, nn.Module):
        try:
            module = spec()
        except TypeError as error:
            raise TypeError(
                f"loss must be a class that needs no arguments, or an instance; got {spec!r} "
                f"({error})."
            ) from error
    if isinstance(module, nn.Module):
        module = copy.deepcopy(module)
        return module if isinstance(module, MixedLoss | ModuleLoss) else ModuleLoss(module)
    raise TypeError(
        f"loss must be a name or expression of {', '.join(TERMS)} (such as 'ce+mcc'), a LossMix, "
        f"or a torch.nn.Module class or instance; got {spec!r}."
    )
