"""A pretraining recipe: every key of a YAML file in `configs/imagenet` or `configs/cifar`, with unit and default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["none", "randaugment", "trivial_augment"]
Loss = Literal["cross_entropy", "binary_cross_entropy"]
Crop = Literal["resized_crop", "shorter_side", "padded_crop"]


@dataclass(frozen=True)
class TrainConfig:
    """What is trained and how. Keys are the same in YAML and on the command line.

    A length of training is in epochs, or in iterations where `iterations` is given: `steps`, `warmup`, `test_every`
    and `save_every` are in the same unit.

    Attributes:
        network: a name of `list_variants()`.
        stem_out_channels, res2_out_channels: widths other than the network's own, doubled from stage to stage.
        stride_in_1x1: where a bottleneck strides; true is the paper's network (v1), false torchvision's (v1.5).
        shortcut: option A, B or C; the network's own if left out.
        pad_before: option A pads half of the new channels before the old ones, as CIFAR networks of others do.
        norm: "BN"; "SyncBN" shares statistics between processes; "GN" needs none.
        norm_eps: epsilon of the batch norms.
        zero_init_last_norm: residual branches start as zero.
        drop_path: stochastic depth rate of the last block.
        weights: start from these (a file, torchvision://, timm:// ...; what MODEL.WEIGHTS takes), not from drawn ones.
        fresh_head: the last layer is drawn nevertheless, as for other classes than those of `weights`.
        mean_image: subtract the mean of every pixel over the training images (the paper on CIFAR), which the weights
            keep as a buffer; only for images of one size.
        epochs, iterations: length of the run; one of them.
        batch_size: images a step, of all processes together.
        accumulate: parts that a process computes its share of the batch in, for less memory.
        rate_per_256: learning rate for a batch of 256; the one used is scaled to `batch_size`.
        schedule: "cosine" to zero; "steps": divided by ten at each of `steps`; "plateau": divided by ten when the
            error of the held-out images (else of the validation images) has not fallen for `patience` tests, and ended
            at the third time; "constant".
        warmup: length of a warm-up from `warmup_share` of the rate, which rises in a line, or stays (`warmup_shape`).
        warmup_until_error: instead, a warm-up at that share until the training error is below so many percent.
        momentum, nesterov, weight_decay: of SGD; `decay_norms` says whether norms and biases decay too.
        clip: largest norm of the gradient; 0 for any.
        ema: decay of an average of the weights, which is then tested and written; 0 for none.
        loss: "cross_entropy", or "binary_cross_entropy" of each class by itself.
        label_smoothing: share of the target that is spread over all classes.
        mixup, cutmix: alpha of each, one of them drawn for every part of a batch; 0 for none.
        augmentation: "resized_crop" (a random part of `scale` of the area, stretched by up to `ratio`), "shorter_side"
            (the paper's: shorter side drawn from `shorter_sides`, then a random square of `size`), or "padded_crop"
            (the paper's on CIFAR: 4 pixels of padding, a random square of the old size; on the device).
        policy: "randaugment" or "trivial_augment" after the crop, or "none".
        erasing: probability that a random rectangle is erased.
        repeats: views of an image that follow each other (repeated augmentation); an epoch stays as long.
        colour_shift: deviation of AlexNet's shift along the principal colours of ImageNet (the paper: 0.1).
        flip: mirror every second image.
        augment_on: where everything behind the crop is done to the images: "workers", "device", or "auto": on a GPU
            there, else by the workers.
        size: side of the training images in pixels.
        start_size: side at the start, from which it rises to `size` in steps of 32 between 40 % and 80 % of the run.
        batch_sides: sides that whole batches are shrunk to in turn at random, for features at several
            scales and at less cost; empty: always `size`.
        test_size, test_resize: centre crop of the test, and shorter side before it.
        mean, std: per channel (RGB) of pixel values 0..255.
        holdout: training images that are left out and tested instead, to choose by; 0 for none.
        exact_norm_images: training images over which the batch norms' mean and variance are computed at the end (the
            paper: all of them, as by default of ImageNet and of any smaller set); 0 keeps the moving averages.
        test_every, save_every: between two tests, and between two checkpoints; 0 for never.
        keep: so many older checkpoints besides the last one, last_<iteration>.pth.
        broken_images: so many unreadable training images are passed over.
        precision: "fp32", "bf16" or "fp16" (with loss scaling) for the arithmetic; weights stay in fp32.
        tf32: on a GPU, let fp32 convolutions and products of matrices round their inputs to TF32, which is several
            times as fast; false computes fp32 to the letter.
        compile: by torch.compile.
        capture: the whole step as one CUDA graph, for small networks on images in the GPU's memory ("padded_crop").
        channels_last: the memory layout; false for NCHW.
        checkpoint_stages: stages whose activations are computed twice, for less memory.
        deterministic: the same bits on a GPU too; slower.
        reader: "fast", or "plain" for Pillow throughout.
        workers: processes that read images; 0 reads in the main one.
        cache: keep decoded images in memory (small data sets).
        seed: of everything that is drawn.
        device: "cpu", "cuda", "cuda:1" ...; empty: a GPU if there is one.
        wandb: project of Weights & Biases that the metrics are sent to; empty for none.
        data: class folders, CIFAR or shards; "torchvision://CIFAR10" downloads it; "synthetic" for none.
    """

    network: str
    stem_out_channels: int | None = None
    res2_out_channels: int | None = None
    stride_in_1x1: bool = True
    shortcut: Literal["A", "B", "C"] | None = None
    pad_before: bool = False
    norm: Literal["BN", "SyncBN", "GN"] = "BN"
    norm_eps: float = 1e-5
    zero_init_last_norm: bool = False
    drop_path: float = 0.0
    weights: str = ""
    fresh_head: bool = False
    mean_image: bool = False
    epochs: float | None = None
    iterations: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    rate_per_256: float = 0.1
    schedule: Literal["cosine", "steps", "plateau", "constant"] = "cosine"
    steps: tuple[float, ...] = ()
    patience: int = 5
    warmup: float = 0.0
    warmup_share: float = 0.0
    warmup_shape: Literal["line", "constant"] = "line"
    warmup_until_error: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_norms: bool = True
    clip: float = 0.0
    ema: float = 0.0
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    augmentation: Crop = "resized_crop"
    policy: Policy = "none"
    erasing: float = 0.0
    repeats: int = 1
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: float = 4 / 3
    shorter_sides: tuple[int, int] = (256, 480)
    colour_shift: float = 0.0
    flip: bool = True
    augment_on: Literal["auto", "workers", "device"] = "auto"
    size: int = 224
    start_size: int | None = None
    batch_sides: tuple[int, ...] = ()
    test_size: int = 224
    test_resize: int = 256
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    holdout: int = 0
    exact_norm_images: int = 1_281_167
    test_every: float = 1.0
    save_every: float = 1.0
    keep: int = 0
    broken_images: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = True
    compile: bool = False
    capture: bool = False
    channels_last: bool = True
    checkpoint_stages: tuple[str, ...] = ()
    deterministic: bool = False
    reader: Literal["fast", "plain"] = "fast"
    workers: int = 4
    cache: bool = False
    seed: int = 0
    device: str = ""
    wandb: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        positive = ("batch_size", "accumulate", "rate_per_256", "size", "test_size", "test_resize", "norm_eps")
        for key in (*positive, "patience", "repeats"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} is {getattr(self, key)}, but it must be positive")
        for key in _NOT_NEGATIVE:
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}, but it must not be negative")
        for key in ("label_smoothing", "momentum", "ema", "warmup_share"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, but it must be from 0 up to, not including, 1")
        for key in ("stem_out_channels", "res2_out_channels"):
            if (width := getattr(self, key)) is not None and width <= 0:
                raise ValueError(f"{key} is {width}, but it must be positive, or null for the network's own")
        if min(self.std) <= 0:
            raise ValueError(f"std {list(self.std)}: each must be positive")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing is {self.erasing}, but it is a probability, 0 to 1")
        if self.fresh_head and not self.weights:
            raise ValueError(
                "fresh_head: true, but there are no weights to start from: every layer is drawn; leave it out"
            )
        self._check_length()
        self._check_views()
        self._check_capture()

    def _check_length(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            given = "neither" if self.epochs is None else "both"
            raise ValueError(f"give the length of the run as epochs or as iterations: {given} is given")
        if self.length <= 0:
            raise ValueError(f"{self.unit} is {self.length:g}, but it must be positive")
        if self.schedule == "steps" and not self.steps:
            raise ValueError(f"schedule 'steps' needs the key steps: the {self.unit} at which the rate drops")
        if self.warmup >= self.length:
            raise ValueError(f"warmup {self.warmup:g} must be below {self.unit} {self.length:g}")
        if self.warmup_until_error is not None and (self.warmup or not self.warmup_share):
            raise ValueError("warmup_until_error: needs a warmup_share and takes the place of warmup")
        if self.warmup_share and not self.warmup and self.warmup_until_error is None:
            raise ValueError(f"warmup_share {self.warmup_share:g}: there is no warm-up; give warmup, or warmup_share 0")
        if self.warmup and self.warmup_shape == "constant" and not self.warmup_share:
            raise ValueError("warmup_shape 'constant' needs a warmup_share: at rate 0 nothing is learnt")
        if self.schedule == "plateau" and not self.test_every:
            raise ValueError("schedule 'plateau' looks at every test, but test_every is 0: say how often")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs a momentum above 0; give one, or nesterov false")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")

    def _check_views(self) -> None:
        if self.test_resize < self.test_size:
            raise ValueError(f"test_resize {self.test_resize} is below test_size {self.test_size}: raise it")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or self.ratio < 1:
            raise ValueError(f"scale {list(self.scale)}, ratio {self.ratio}: 0 < low <= high <= 1 and ratio >= 1")
        if not self.size <= self.shorter_sides[0] <= self.shorter_sides[1] and self.augmentation == "shorter_side":
            raise ValueError(f"shorter_sides {list(self.shorter_sides)}: low <= high, none below size {self.size}")
        if any(not 16 <= side <= self.size for side in self.batch_sides):
            raise ValueError(f"batch_sides {list(self.batch_sides)}: each must be from 16 to size {self.size}")
        if self.start_size is not None and not 16 <= self.start_size <= self.size:
            raise ValueError(f"start_size {self.start_size}: from 16 to size {self.size}")
        if self.mean_image and (self.size != self.test_size or self.start_size or self.batch_sides):
            raise ValueError("mean_image: true, but the images are of several sizes; use mean alone")
        if self.mean_image and (set(self.mean), set(self.std)) != ({0}, {255}):
            raise ValueError("mean_image: takes the place of mean: give mean [0, 0, 0] and std [255, 255, 255]")
        if self.augmentation == "padded_crop":
            for key in ("colour_shift", "erasing", "start_size", "batch_sides"):
                if getattr(self, key):
                    raise ValueError(f"{key}: not with augmentation 'padded_crop', which is computed for a whole batch")
            if self.policy != "none":
                raise ValueError("policy: not with augmentation 'padded_crop', which is computed for a whole batch")
            if self.augment_on == "workers":
                raise ValueError("augment_on: 'padded_crop' is computed on the device; leave 'workers' out")

    def _check_capture(self) -> None:
        if not self.capture:
            return
        if self.augmentation != "padded_crop":
            raise ValueError(f"capture: only with augmentation 'padded_crop', not {self.augmentation!r}: leave it out")
        for key in ("mixup", "cutmix", "drop_path", "checkpoint_stages"):
            if getattr(self, key):
                raise ValueError(f"capture: not with {key}, which differs from step to step; leave one of them out")
        if self.network.startswith("vgg"):
            raise ValueError(f"capture: not with {self.network}, whose dropout differs from step to step; leave it out")
        if self.accumulate > 1 or self.precision == "fp16":
            given = f"accumulate {self.accumulate}" if self.accumulate > 1 else "precision 'fp16' (use bf16)"
            raise ValueError(f"capture: not with {given}; leave one of them out")

    @property
    def rate(self) -> float:
        """Highest learning rate: the linear rule."""
        return self.rate_per_256 * self.batch_size / 256

    @property
    def unit(self) -> Literal["epochs", "iterations"]:
        """What `length`, `steps`, `warmup`, `test_every` and `save_every` count."""
        return "iterations" if self.epochs is None else "epochs"

    @property
    def length(self) -> float:
        """Of the run, in `unit`."""
        return self.epochs if self.epochs is not None else self.iterations or 0


_NOT_NEGATIVE = (
    "workers", "warmup", "weight_decay", "exact_norm_images", "colour_shift", "seed", "clip", "mixup",
    "cutmix", "holdout", "test_every", "save_every", "keep", "broken_images",
)  # fmt: skip
