"""Training data in an order that depends on the seed and the iteration alone: a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_backbone.detection.data.checks import check_there
from resnet_backbone.detection.data.mapper import training_mapper
from resnet_backbone.engine.interrupt import obey_parent_alone
from resnet_backbone.engine.seeds import seed_of

Record = dict[str, Any]
Place = tuple[int, int]
"""How many-th image of this process it is, and the image's index."""


class Records(DatasetFromList):
    """Records as bytes in one array, each made anew when it is asked for.

    Python objects would be copied, page by page, into every data loader's worker that counts references to them.

    Attributes:
        wide: for every image whether it is wider than high.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.wide = [record["width"] > record["height"] for record in records]
        super().__init__(records, copy=False)


class Batches(Sampler[list[Place]]):
    """Endless batches of indices: shuffled anew every epoch, wide and tall images apart (less padding).

    The same batches as Detectron2's loader makes without workers, but the first `start` can be left out
    without reading an image.

    Args:
        indices: this process's stream of image indices.
        wide: for every image whether it is wider than high; None does not part them.
        batch_size: images a batch, of this process.
        start: batches to leave out.
    """

    def __init__(self, indices: Any, wide: Sequence[bool] | None, batch_size: int, start: int = 0) -> None:
        self._indices, self._wide, self._batch_size, self._start = indices, wide, batch_size, start

    def __iter__(self) -> Iterator[list[Place]]:
        buckets: tuple[list[Place], list[Place]] = ([], [])
        done = 0
        for place in enumerate(self._indices):
            bucket = buckets[self._wide is not None and not self._wide[place[1]]]
            bucket.append(place)
            if len(bucket) == self._batch_size:
                done += 1
                if done > self._start:
                    yield list(bucket)
                bucket.clear()


class SeededRecords(Dataset[Record | ValueError]):
    """Maps records to model inputs; what is drawn for an image depends on seed and place alone.

    An image that cannot be used comes back as the error: an exception in a worker process would reach the
    user as a traceback.
    """

    def __init__(self, records: Any, mapper: Callable[[Record], Record], seed: int) -> None:
        # The rank is asked for here: a worker process does not know it.
        self._records, self._mapper, self._seed, self._rank = records, mapper, seed, comm.get_rank()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: Place) -> Record | ValueError:
        position, index = place
        record = self._records[index]  # made anew: the mapper may change it
        np.random.seed(seed_of(self._seed, self._rank, position))
        try:
            return self._mapper(record)
        except Exception as error:
            return ValueError(f"{record['file_name']}: cannot be trained on ({type(error).__name__}: {error})")


def training_records(cfg: CfgNode) -> Records:
    """The records of DATASETS.TRAIN that have something to train on.

    Raises:
        ValueError: there is none, or images are not there.
    """
    try:
        records = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
        )
    except AssertionError as error:
        raise ValueError(f"DATASETS.TRAIN: {list(cfg.DATASETS.TRAIN)}: {error}; name a set with objects") from None
    check_there(records)
    return Records(records)


def training_batches(
    cfg: CfgNode, records: Records, seed: int, start: int = 0, mapper: Callable[[Record], Record] | None = None
) -> Iterator[list[Record]]:
    """Endless batches of Detectron2's model inputs for this process, from iteration `start` on.

    Args:
        cfg: SOLVER.IMS_PER_BATCH is shared by all processes.
        records: as `training_records` gives them.
        seed: of order and augmentation.
        mapper: the one that INPUT.MAPPER_TRAIN names unless another is given.

    Raises:
        ValueError: at an image that cannot be used; names the file.
    """
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        indices: Any = RepeatFactorTrainingSampler(factors, seed=seed)
    else:
        indices = TrainingSampler(len(records), seed=seed)
    wide = records.wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    batches = Batches(indices, wide, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), start)
    data = SeededRecords(records, mapper or training_mapper(cfg), seed)
    workers = cfg.DATALOADER.NUM_WORKERS
    loader: DataLoader[Any] = DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=obey_parent_alone,
        pin_memory=False,
        # A generator of its own: the loop's random numbers do not depend on the number of workers.
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        for one in batch:
            if isinstance(one, ValueError):
                raise one
        yield batch
