"""Draws the paper's figures and tables of classifiers out of folders of runs: errors, responses, parameters."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/figures.py runs/cifar --output figures
  python tools/figures.py runs/cifar --output figures --data cifar-10-batches-bin
  python tools/figures.py runs/plain* runs/resnet* --output figures --top 20

RUNS are runs of tools/pretrain_imagenet.py, or folders that hold some. Written are Figures 1 and 6 of CIFAR networks or
Figure 4 of the others, Table 6 or Tables 2 and 3, with --data Figure 7, each as PNG and SVG (tables as Markdown and CSV
too), and a README.md with the runs behind them. Runs of different data or schedules never share a figure; those that
differ in their seed alone are one line, their mean with one deviation on either side; unfinished ones say how far
they are.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders of runs")
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="where to write")
    made.add_argument("--data", metavar="PATH", help="test images for Figure 7: CIFAR, class folders or shards")
    made.add_argument("--limit", type=int, default=1000, metavar="N", help="so many of them (default: 1000)")
    made.add_argument("--top", type=float, metavar="PERCENT", help="end of the error axes (the paper's Figure 6: 20)")
    made.add_argument(
        "--device", default="", help="for Figure 7: cpu, cuda, cuda:1 ... (default: a GPU if there is one)"
    )
    return made


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    arguments = parser().parse_args()
    from resnet_backbone.classification.figures.figures import FigureOptions, draw_figures
    from resnet_backbone.engine.guard import guarded

    options = FigureOptions(
        runs=tuple(arguments.runs), output=arguments.output, data=arguments.data, limit=arguments.limit,
        top=arguments.top, device=arguments.device,
    )  # fmt: skip
    return guarded(lambda: draw_figures(options), memory_remedy="--device cpu")


if __name__ == "__main__":
    sys.exit(main())
