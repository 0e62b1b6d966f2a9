"""What the fast settings keep: the stock state dict, nothing stale, one graph."""

from __future__ import annotations

import copy
import io
import shutil

import pytest
import torch
from made_networks import COMPILE, FOLD, LAST, SETTINGS, difference, gradients, network, stock_and_ours
from test_detectron2_backbones import config
from torch import nn

from resnet_backbone.models.fast import speed_up


@pytest.fixture
def eager_compile(monkeypatch):
    """`module.compile()` traces as ever and runs the graph unchanged: seconds instead of a minute. Gives the graphs."""
    graphs = []

    def backend(graph, _):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph.forward

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: plain(self, backend=backend))
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


@pytest.mark.parametrize("settings", [*SETTINGS, (FOLD, LAST, COMPILE)], ids="+".join)
def test_state_dict_is_the_stock_one_both_ways(settings, eager_compile):
    stock, ours = stock_and_ours(config("FPN", 18), settings)
    with torch.no_grad():
        ours(torch.randn(1, 3, 64, 64))
    state = ours.state_dict()
    assert list(state) == list(stock.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in stock.state_dict().items())
    stock.load_state_dict(state, strict=True)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in stock.named_parameters()]


def scale_in_place(net):
    with torch.no_grad():
        net.res2[0].conv1.weight.mul_(1.5)


def norm_in_place(net):
    net.res2[0].conv2.norm.running_mean.add_(0.3)


def load(net, assign=False):
    changed = {k: v * 1.25 if k.endswith("conv1.weight") else v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(changed, strict=True, assign=assign)


def step(net):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sum(f.square().mean() for f in net(torch.ones(1, 3, 32, 32)).values()).backward()
    optimizer.step()
    net.eval()


def swap_data(net):
    net.res2[0].conv1.weight.data = net.res2[0].conv1.weight.data * 1.5


def write_through_data(net):
    net.res2[0].conv1.weight.data.mul_(1.5)
    net.eval()


def new_parameters(net):
    for scale in (1.5, 2.0):  # the second may come to lie where the first was
        net.res2[0].conv1.weight = nn.Parameter(net.res2[0].conv1.weight.detach() * scale)


CHANGES = [
    scale_in_place, norm_in_place, load, lambda net: load(net, assign=True), step, swap_data, write_through_data,
    new_parameters, lambda net: net.to(torch.bfloat16).float(), lambda net: setattr(net.stem.conv1.norm, "eps", 0.1),
]  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_nothing_stale_is_used(change, compiled, eager_compile):
    image = torch.randn(1, 3, 32, 32)
    plain = network(freeze_at=1)
    fast = speed_up(copy.deepcopy(plain), fold_norms=True, compile=compiled)
    with torch.no_grad():
        before = fast(image)
        for net in (plain, fast):
            with torch.enable_grad():
                change(net)
        after = plain(image)
        assert difference(after, before) > 1e-3
        assert difference(fast(image), after) <= 1e-5


def test_copies_and_pickles_keep_nothing_of_the_original():
    image, plain = torch.randn(1, 3, 32, 32), network()
    fast = speed_up(copy.deepcopy(plain), fold_norms=True, channels_last=True, compile=True)
    fast._compiled_call_impl = None
    with torch.inference_mode():
        fast(image)
    stream = io.BytesIO()
    torch.save(fast, stream)
    stream.seek(0)
    for copied in (copy.deepcopy(fast), torch.load(stream, weights_only=False)):
        scale_in_place(fast)
        with torch.no_grad():
            assert difference(copied(image), plain(image)) <= 1e-5
        with torch.no_grad():
            fast.res2[0].conv1.weight.div_(1.5)


def test_what_inference_mode_kept_serves_a_pass_with_gradients():
    net = speed_up(network(freeze_at=2), fold_norms=True)
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    with torch.inference_mode():
        net(image)
    sum(f.sum() for f in net(image).values()).backward()
    assert image.grad.abs().sum() > 0
    assert all((p.grad is None) == (n.startswith(("stem", "res2"))) for n, p in net.named_parameters())


def test_one_graph_at_evaluation_and_one_in_training(eager_compile):
    stock, ours = stock_and_ours(config("FPN", 18), (FOLD, LAST, COMPILE))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert difference(ours(image), stock(image)) <= 1e-5
    assert difference(gradients(ours.train(), image), gradients(stock.train(), image)) <= 1e-3
    evaluation, training = [graph for graph in eager_compile if len(graph) > 50]
    assert not any("batch_norm" in name or "rsqrt" in name for name in evaluation)
    assert any("rsqrt" in name for name in training) and not any("batch_norm" in name for name in training)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler for torch.compile")
def test_compiled_for_real():
    plain = network("cifar_resnet8", out_features=("res2",))
    fast = speed_up(copy.deepcopy(plain), fold_norms=True, channels_last=True, compile=True)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert difference(fast(image), plain(image)) <= 1e-5
        scale_in_place(fast), scale_in_place(plain)
        assert difference(fast(image), plain(image)) <= 1e-5
