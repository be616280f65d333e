"""From images to logits in low precision."""

import numpy as np
import pytest
import torch

from tests.training.data import (
    all_rows,
    assert_same_state,
    draw,
    gradient_of,
    make_net,
    relative_error,
    state_of,
)


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, micro_batch_size):
    data = draw(dtype=np.float32)
    options = {"module__dtype": torch.float32, "micro_batch_size": micro_batch_size}
    net = make_net(data, autocast=dtype, **options)
    if dtype == torch.float16:
        # It begins so large that first steps overflow and are left out, until it has come down.
        assert net.scaler_.get_scale() == 2**16
        before = state_of(net)
        net.train_step(all_rows(data))
        assert_same_state(state_of(net), before)
        assert net.scaler_.get_scale() == 2**15
        net.scaler_.update(256.0)
        net.module_.zero_grad()
    inside = set()
    net.module_.network.classifier.register_forward_hook(
        lambda module, args, out: inside.add(out.dtype)
    )
    step = net.train_step_single(all_rows(data))
    assert inside == {dtype}
    assert step["y_pred"].dtype == step["loss"].dtype == torch.float32
    assert net.forward(data).dtype == torch.float32
    full = make_net(data, **options)
    full_step = full.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(full_step["loss"].item(), rel=0.05)
    assert not torch.equal(step["y_pred"], full_step["y_pred"])
    assert relative_error(gradient_of(net.module_), gradient_of(full.module_)) < 0.1
    net.train_epochs(data, data, 2)
    losses = net.history[:, ("train_loss", "valid_loss")]
    assert np.isfinite(losses).all()
    assert {parameter.dtype for parameter in net.module_.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")
