"""What stops Detectron2 v0.6's Python files on today's libraries, fix by fix.

Each fix names a text that must occur an exact number of times in one file: a changed source is refused
instead of half mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fix:
    """Replaces `old`, found exactly `count` times in `file` (relative to the package), by `new`."""

    name: str
    file: str
    old: str
    new: str
    count: int
    why: str


PILLOW = "Pillow 10 removed Image.LINEAR; Image.BILINEAR is the same filter"
NUMPY = "numpy 1.24 removed the aliases of Python's own types"
RESOURCES = "setuptools 82 removed pkg_resources"
CAFFE2 = "torch has no caffe2 any more; tracing and scripting helpers need none"
NO_FAST_COCO = "the C++ evaluation is compiled; pycocotools gives the same numbers"

FIXES = (
    Fix("pillow", "data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", 1, PILLOW),
    Fix("numpy-build", "data/build.py", "dtype=np.int)", "dtype=int)", 1, NUMPY),
    Fix("numpy-build-annotations", "data/build.py", "dtype=np.int\n", "dtype=int\n", 1, NUMPY),
    Fix("numpy-voc", "data/datasets/pascal_voc.py", "dtype=np.str)", "dtype=str)", 1, NUMPY),
    Fix("numpy-voc-evaluation", "evaluation/pascal_voc_evaluation.py", "astype(np.bool)", "astype(bool)", 2, NUMPY),
    Fix("numpy-semantic-int", "evaluation/sem_seg_evaluation.py", "dtype=np.int)", "dtype=int)", 2, NUMPY),
    Fix("numpy-semantic-dtype", "evaluation/sem_seg_evaluation.py", "dtype=np.float)", "dtype=float)", 2, NUMPY),
    Fix("numpy-semantic-float", "evaluation/sem_seg_evaluation.py", "astype(np.float)", "astype(float)", 3, NUMPY),
    Fix("numpy-masks", "structures/masks.py", "astype(np.bool)", "astype(bool)", 2, NUMPY),
    Fix("numpy-masks-keep", "structures/masks.py", "dtype=np.bool)", "dtype=bool)", 1, NUMPY),
    Fix("numpy-visualizer", "utils/visualizer.py", "astype(np.bool)", "astype(bool)", 3, NUMPY),
    Fix("numpy-video", "utils/video_visualizer.py", "dtype=np.bool)", "dtype=bool)", 1, NUMPY),
    Fix("resources-import", "model_zoo/model_zoo.py", "import pkg_resources\n", "", 1, RESOURCES),
    Fix(
        "resources-use",
        "model_zoo/model_zoo.py",
        'pkg_resources.resource_filename(\n        "detectron2.model_zoo", os.path.join("configs", config_path)\n    )',
        'os.path.join(os.path.dirname(__file__), "configs", config_path)',
        1,
        RESOURCES,
    ),
    Fix(
        "caffe2",
        "export/__init__.py",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ImportError:  # no caffe2 in this torch\n    pass\n",
        1,
        CAFFE2,
    ),
    Fix(
        "fast-coco",
        "evaluation/coco_evaluation.py",
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
        "COCOeval_opt = COCOeval  # no compiled detectron2._C\n",
        1,
        NO_FAST_COCO,
    ),
)

# Nothing stops without these, but what a user reads would mislead: there are no compiled operators.
CLARIFICATIONS = (
    Fix(
        "fast-coco-log",
        "evaluation/coco_evaluation.py",
        "self._use_fast_impl = use_fast_impl\n",
        "self._use_fast_impl = use_fast_impl and COCOeval_opt is not COCOeval\n",
        1,
        "the log would call pycocotools' numbers unofficial",
    ),
    Fix(
        "rotated-nms",
        "layers/nms.py",
        "    return torch.ops.detectron2.nms_rotated(",
        "    from detectron2 import _C\n\n    return _C.nms_rotated(",
        1,
        "without compiled operators torch's own error names no remedy; the stand-in's does",
    ),
)

STAND_IN = '''"""Stands where Detectron2's compiled operators would be: everything else works without them."""

MISSING = "deformable convolution, rotated boxes and the C++ COCO evaluation"


def get_compiler_version():
    return "none: Python files only, without " + MISSING


def get_cuda_version():
    return "none"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(
        f"detectron2._C.{name} needs Detectron2's compiled operators, which this installation is without "
        f"({MISSING}). Remedy: `pip uninstall detectron2`, then `python -m resnet_backbone.install.detectron2 "
        "--source official` with a C++ compiler, or the conda-forge package"
    )
'''


class PatchError(RuntimeError):
    """A fix does not fit the file that it is for."""


def apply_fix(package: Path, fix: Fix) -> None:
    """Applies one fix to the `detectron2` folder `package`.

    Raises:
        PatchError: the text is not there, or not as often as it must be.
    """
    path = package / fix.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = text.count(fix.old)
    if found != fix.count:
        raise PatchError(
            f"{path}: fix {fix.name!r} expects {fix.old.strip()!r} {fix.count} times and found it {found} times; "
            "these are not the files of Detectron2 v0.6"
        )
    path.write_text(text.replace(fix.old, fix.new), encoding="utf-8")


def apply_all(package: Path) -> None:
    """All of it, and the stand-in for the compiled operators, on the `detectron2` folder `package`."""
    for fix in (*FIXES, *CLARIFICATIONS):
        apply_fix(package, fix)
    (package / "_C.py").write_text(STAND_IN, encoding="utf-8")
