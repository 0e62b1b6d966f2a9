"""Detectron2's config with our keys beside its own, each with its default and meaning."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg


def default_config() -> CfgNode:
    """Detectron2's `get_cfg()` with the keys of this project added."""
    cfg = get_cfg()
    cfg.MODEL.RESIDUAL = residual_keys()
    cfg.DATA = data_keys()
    # "SGD" as Detectron2 builds it, or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # SOLVER.AMP.ENABLED trains in "bf16", or in "fp16" with loss scaling (GPU alone).
    cfg.SOLVER.AMP.DTYPE = "bf16"
    # Training images by "fast" decoding and resizing, within one grey level of "detectron2", its own mapper.
    cfg.INPUT.MAPPER_TRAIN = "fast"
    # Micro-batches a step: IMS_PER_BATCH stays the batch, and takes the memory of IMS_PER_BATCH / ACCUMULATE images.
    cfg.SOLVER.ACCUMULATE = 1
    # The weights' exponential moving average, which then is what is tested and written.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9998
    # Keeps the weights of the best evaluation by this metric, as "bbox/AP"; empty keeps none.
    cfg.TEST.BEST_METRIC = ""
    # Test images drawn with predictions beside ground truth, and the score from which on they are drawn.
    cfg.TEST.PICTURES = 16
    cfg.TEST.PICTURE_THRESH = 0.5
    # What computes COCO's numbers, the same by each: "pycocotools", "hotcoco" (much faster, extra [eval]), or "auto".
    cfg.TEST.COCO_BACKEND = "auto"
    # "none": VOC's numbers as the devkit defines them; "detectron2": as Detectron2 rounds and sorts, to compare.
    cfg.TEST.VOC_ROUNDING = "none"
    return cfg


def residual_keys() -> CfgNode:
    """MODEL.RESIDUAL: what Detectron2's MODEL.RESNETS cannot say about our networks; all of it optional."""
    keys = CfgNode()
    keys.VGG = "vgg16"  # which network the VGG builders build
    keys.SHORTCUT = "B"  # option A, B or C of Sec. 3.3, or "none"
    keys.NORM_EPS = 1e-5  # set from the weights' record
    keys.DROP_PATH = 0.0  # stochastic depth of the last block
    keys.CHECKPOINT_STAGES = []  # stages whose activations are computed again in the backward pass
    keys.FOLD_NORMS = False  # frozen batch norms computed inside their convolutions: faster, same outputs
    keys.CHANNELS_LAST = False  # memory format of the backbone: faster on GPUs, same outputs
    keys.COMPILE = False  # torch.compile of the backbone: faster after a first slow step
    return keys


def data_keys() -> CfgNode:
    """DATA: the user's own data; DATA.ROOT empty means that DATASETS.TRAIN and .TEST name registered ones."""
    keys = CfgNode()
    keys.FORMAT = "voc"  # "voc": folders Annotations, JPEGImages, ImageSets/Main; "coco": JSON files
    keys.ROOT = ""  # folder, from the working directory or else from $DETECTRON2_DATASETS
    keys.NAME = ""  # name in logs and results; empty: the folder's or the file's
    keys.TRAIN = ""  # voc: split file's name without .txt; coco: JSON file, from ROOT
    keys.TEST = ""  # as TRAIN; empty: the usual split files, else a share of the images
    keys.TRAIN_IMAGES = ""  # coco: image folder, from ROOT
    keys.TEST_IMAGES = ""  # coco: empty means the same as TRAIN_IMAGES
    keys.CLASSES = []  # names to use, in their order; empty: all that the data have (a run's config says which)
    keys.CATEGORY_IDS = []  # their ids in the results; set from the data
    keys.SPLIT_SEED = 0  # of the drawn split
    keys.TEST_FRACTION = 0.2  # of the drawn split
    return keys
