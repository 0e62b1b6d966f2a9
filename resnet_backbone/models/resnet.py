"""Residual and plain networks: the paper's Table 1 (ImageNet) and Sec. 4.2 (CIFAR)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from resnet_backbone.models.blocks import BasicBlock, BottleneckBlock, ResidualBlock, Stem
from resnet_backbone.models.network import FeatureShape, Network, NetworkConfig, check_features, needed_stages


class ResNet(Network):
    """conv1, conv2_x .. conv5_x of Table 1 as `stem`, `res2` .. `res5`, and `linear` for a classifier.

    CIFAR networks have `stem`, `res2`, `res3`, `res4`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        names = config.variant.stage_names
        check_features(config, ("stem", *names))
        self.stem = Stem(
            config.in_channels,
            config.stem_out_channels,
            cifar=config.variant.family == "cifar",
            norm=config.norm,
            eps=config.norm_eps,
        )
        self.stage_names = names[: needed_stages(config, names)]
        self.shapes["stem"] = FeatureShape(config.stem_out_channels, self.stem.stride)
        channels = config.stem_out_channels
        for index, name in enumerate(self.stage_names):
            stage = make_stage(config, index, channels)
            self.add_module(name, stage)
            first, last = stage[0], stage[-1]
            assert isinstance(first, ResidualBlock) and isinstance(last, ResidualBlock)
            channels = last.out_channels
            self.shapes[name] = FeatureShape(channels, list(self.shapes.values())[-1].stride * first.stride)
        if config.num_classes is not None:
            self.linear = nn.Linear(channels, config.num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)
            nn.init.zeros_(self.linear.bias)
            self.shapes["linear"] = FeatureShape(config.num_classes, 0)
        if config.zero_init_last_norm:
            for block in self.blocks():
                block.zero_last_norm()
        self.freeze(config.freeze_at)

    def blocks(self) -> Iterator[ResidualBlock]:
        """All residual blocks, first to last."""
        for name in self.stage_names:
            for block in self.get_submodule(name).children():
                assert isinstance(block, ResidualBlock)
                yield block

    def stages(self) -> Iterator[tuple[str, nn.Module]]:
        yield "stem", self.stem
        for name in self.stage_names:
            yield name, self.get_submodule(name)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))

    def classify_everywhere(self, x: torch.Tensor) -> torch.Tensor:
        window = 8 if self.variant.family == "cifar" else 7
        # Averaging commutes with the linear layer, so that it may come first.
        means = F.avg_pool2d(x, (min(window, x.shape[2]), min(window, x.shape[3])), stride=1)
        return F.conv2d(means, self.linear.weight[:, :, None, None], self.linear.bias)

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Takes the first parts out of training: 1 the stem, 2 also res2, and so on, as Detectron2's FREEZE_AT."""
        for _, stage in list(self.stages())[:freeze_at]:
            for part in [stage] if isinstance(stage, Stem) else stage.children():
                assert isinstance(part, (Stem, ResidualBlock))
                part.freeze()
        return self


class Stage(nn.Sequential):
    """Blocks in a row; with `recompute`, their activations are computed again for the backward pass."""

    recompute = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().forward(x)
        for block in self:
            x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block))
        return x


@contextlib.contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before):
            norm.momentum = momentum
            norm.num_batches_tracked = batches


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    # The second pass over a block would otherwise count its batch twice in the running statistics.
    return contextlib.nullcontext(), _without_statistics(block)


def make_stage(config: NetworkConfig, index: int, in_channels: int) -> Stage:
    """Stage number `index` (0 is res2) with its options; also the C4 head's res5.

    Args:
        in_channels: channels of the stage's input.
    """
    variant = config.variant
    last = index == len(variant.depths) - 1
    dilation = config.res5_dilation if last else 1
    # A dilated res5 keeps res4's stride, and every block of it is dilated (Detectron2's DC5).
    first_stride = 1 if index == 0 or dilation > 1 else 2
    out_channels = config.res2_out_channels * 2**index
    done, total = sum(variant.depths[:index]), sum(variant.depths)
    blocks: list[ResidualBlock] = []
    for i in range(variant.depths[index]):
        stride = first_stride if i == 0 else 1
        # The drop rate grows linearly with depth, as in Stochastic Depth.
        drop_path = config.drop_path * (done + i) / max(total - 1, 1)
        if variant.block == "bottleneck":
            blocks.append(
                BottleneckBlock(
                    in_channels,
                    out_channels,
                    bottleneck_channels=config.groups * config.width_per_group * 2**index,
                    stride=stride,
                    groups=config.groups,
                    stride_in_1x1=config.stride_in_1x1,
                    dilation=dilation,
                    shortcut=config.shortcut,
                    norm=config.norm,
                    eps=config.norm_eps,
                    drop_path=drop_path,
                    pad_before=config.pad_before,
                )
            )
        else:
            blocks.append(
                BasicBlock(
                    in_channels,
                    out_channels,
                    stride=stride,
                    dilation=dilation,
                    shortcut=config.shortcut,
                    norm=config.norm,
                    eps=config.norm_eps,
                    drop_path=drop_path,
                    pad_before=config.pad_before,
                )
            )
        in_channels = out_channels
    stage = Stage(*blocks)
    stage.recompute = variant.stage_names[index] in config.checkpoint_stages
    return stage
