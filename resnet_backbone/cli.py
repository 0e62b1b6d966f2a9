"""`resnet-backbone`: arguments to calls, errors to one line and an exit code."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_backbone.weights.record import NAMINGS

EXAMPLES = """examples:
  resnet-backbone weights show torchvision://ResNet50_Weights.IMAGENET1K_V2
  resnet-backbone weights verify resnet50.pth --images imagenet_val/
  resnet-backbone weights convert R-50.pkl resnet50.safetensors --to torchvision
  resnet-backbone weights deepen resnet50.pth resnet101.safetensors --to resnet101
  resnet-backbone weights recompute-norms resnet50.pth detector.safetensors --images imagenet/train
  resnet-backbone doctor
  resnet-backbone install-detectron2
  resnet-backbone build-decoder
"""
SOURCE = "torchvision://, timm://, detectron2://, http(s):// or a file"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="resnet-backbone", description="Weights of the paper's networks, and setting up this machine.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    rooms = top.add_subparsers(dest="room", required=True)
    _add_weights(rooms)
    _add_machine(rooms)
    return top


def _add_weights(rooms: Any) -> None:
    weights = rooms.add_parser("weights", help="show, verify, convert, deepen weights; recompute their norms")
    actions = weights.add_subparsers(dest="action", required=True)
    _add_looking(actions)
    _add_writing(actions)


def _add_looking(actions: Any) -> None:
    show = _command(actions, "show", "record, parameters and multiply-adds", (
        "Prints what a file of weights expects (channel order, mean, deviation, stride, eps), how it says so, and what "
        "the network costs."
    ))  # fmt: skip
    show.add_argument("source", help=SOURCE)

    verify = _command(actions, "verify", "find out by images what a file expects, and write its record", (
        "Tries every way to feed a classifier on labelled images, says which is right and how sure that is, and writes "
        "it beside the file as NAME.json, which every tool then reads."
    ))  # fmt: skip
    verify.add_argument("source", help=SOURCE)
    verify.add_argument(
        "--images", required=True, metavar="DIR", help="with labels.txt, or one folder a class; or with val/ in it"
    )
    verify.add_argument("--limit", type=int, metavar="N", help="use only N images, drawn with a fixed seed")
    verify.add_argument("--all", action="store_true", help="take every hypothesis through all images")
    verify.add_argument("--no-sidecar", action="store_true", help="only print; write no record beside the file")


def _add_writing(actions: Any) -> None:
    convert = _command(actions, "convert", "rename into another naming, bit for bit", (
        "Writes the tensors under the names of another library, with their record."
    ))  # fmt: skip
    convert.add_argument("source", help=SOURCE)
    convert.add_argument("output", type=Path, help=".safetensors or .pth")
    convert.add_argument(
        "--to", default="resnet_backbone", metavar="NAMING", help=f"{', '.join(NAMINGS)}; default ours"
    )

    deepen = _command(actions, "deepen", "grow into a deeper network that computes the same", (
        "Writes weights of a deeper network whose new blocks add nothing yet: every answer stays, and a fine-tuning "
        "starts from there."
    ))  # fmt: skip
    deepen.add_argument("source", help=SOURCE)
    deepen.add_argument("output", type=Path, help=".safetensors or .pth")
    deepen.add_argument("--to", required=True, metavar="NETWORK", help="the deeper network, as resnet101")
    deepen.add_argument("--seed", type=int, default=0, help="of what the new blocks start from (default: 0)")

    norms = _command(actions, "recompute-norms", "a classifier's batch norms over a training set", (
        "Sets mean and variance of every batch norm to those over a folder's images, for a detector that freezes them "
        "(Appendix A). Norms that are affine only get statistics too, and keep what they answer."
    ))  # fmt: skip
    norms.add_argument("source", help=SOURCE)
    norms.add_argument("output", type=Path, help=".safetensors or .pth")
    norms.add_argument("--images", required=True, metavar="DIR", help="of training images, or with train/ in it")
    norms.add_argument("--count", type=int, metavar="N", help="only N images, drawn with a fixed seed (default: all)")
    norms.add_argument("--batch", type=int, default=128, metavar="N", help="images at a time (default: 128)")
    norms.add_argument("--workers", type=int, default=4, metavar="N", help="processes that read images (default: 4)")
    norms.add_argument("--device", default="", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")


def _add_machine(rooms: Any) -> None:
    _command(rooms, "doctor", "is this machine ready to train, and what to do where it is not", (
        "Looks at Python, torch, torchvision, CUDA, the other libraries, Detectron2 and its operators, the folders of "
        "data, disk and shared memory."
    ))  # fmt: skip
    install = _command(rooms, "install-detectron2", "install Detectron2 where it is missing", (
        "Leaves one that is there alone. Tries the official source at a pinned commit where git reaches it and a "
        "compiler is there, else the Python files of v0.6 from the package registry, mended for today's libraries."
    ))  # fmt: skip
    install.add_argument("--wheelhouse", type=Path, metavar="DIR", help="install from this folder alone")
    _command(rooms, "build-decoder", "compile the decoder of parts of JPEGs: training images in less time", (
        "Needs a C compiler and libjpeg-turbo's headers; checks the result on generated images and puts it where "
        "training looks for it. Without it OpenCV decodes whole images."
    ))  # fmt: skip


def _command(group: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """A command with those of the examples that are its own."""
    own = [line for line in EXAMPLES.splitlines() if f" {name}" in line]
    made: argparse.ArgumentParser = group.add_parser(
        name, help=summary, description=description, epilog="\n".join(["example:", *own]),
        formatter_class=_Formatter,
    )  # fmt: skip
    return made


class _Formatter(argparse.HelpFormatter):
    """Wraps the description; examples stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns 0, 1 after one sentence on what is wrong, or 130 when interrupted."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.room == "doctor":
            from resnet_backbone.install import doctor

            return doctor.main()
        if arguments.room == "install-detectron2":
            from resnet_backbone.install import detectron2

            return detectron2.main(["--wheelhouse", str(arguments.wheelhouse)] if arguments.wheelhouse else [])
        if arguments.room == "build-decoder":
            from resnet_backbone.images.build_region import build

            print(f"{build()}: built, and found from now on")
            return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from resnet_backbone.engine.guard import guarded

    return guarded(lambda: _weights(arguments), memory_remedy="a smaller --batch, or fewer images")


def _weights(arguments: argparse.Namespace) -> int:
    if arguments.action == "verify":
        _verify(arguments)
        return 0
    from resnet_backbone.weights.convert import convert, show
    from resnet_backbone.weights.deepen import deepen

    if arguments.action == "show":
        print(show(arguments.source))
        return 0
    if arguments.action == "convert":
        record = convert(arguments.source, arguments.output, arguments.to)
    elif arguments.action == "recompute-norms":
        from resnet_backbone.classification.testing.recompute import recompute_norms

        record = recompute_norms(
            arguments.source, arguments.output, arguments.images, count=arguments.count, batch=arguments.batch,
            workers=arguments.workers, device=arguments.device,
        )  # fmt: skip
    else:
        record = deepen(arguments.source, arguments.output, arguments.to, seed=arguments.seed)
    print(f"{arguments.output}: {record.describe()}")
    for note in record.notes:
        print(f"  {note}")
    return 0


def _verify(arguments: argparse.Namespace) -> None:
    from resnet_backbone.engine.atomic import write_atomically
    from resnet_backbone.weights.record import sidecar_of
    from resnet_backbone.weights.verify import verify

    screen = None if arguments.all else 100
    report = verify(arguments.source, arguments.images, screen=screen, limit=arguments.limit,
                    progress=lambda line: print(line, file=sys.stderr))  # fmt: skip
    print(report)
    local = "://" not in arguments.source
    if report.winner is not None and local and not arguments.no_sidecar:
        sidecar = sidecar_of(Path(arguments.source))
        text = replace(report.record, source=Path(arguments.source).name).to_json()
        write_atomically(sidecar, lambda file: file.write(text.encode()))
        print(f"record written to {sidecar}")
