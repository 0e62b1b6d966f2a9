"""Shows the whole path on generated data, in minutes on a CPU: data, pretraining, fine-tuning, evaluation, pictures."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/demo.py
  python tools/demo.py --seed 1 --output runs/demo --require 60
"""


def main() -> int:
    """Returns 0, or 1 where something is wrong or the AP is below what was required."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")
    parser.add_argument("--seed", type=int, default=0, help="of pretraining and fine-tuning (default: 0)")
    parser.add_argument("--require", type=float, default=0.0, metavar="AP50", help="exit code 1 if box AP50 is lower")
    arguments = parser.parse_args()
    print(f"demo: everything goes to {arguments.output}", flush=True)
    from resnet_backbone.demo.run import run_demo
    from resnet_backbone.engine.guard import guarded

    def action() -> int:
        result = run_demo(Path(__file__).parents[1] / "configs", arguments.output, arguments.seed)
        if result.box_AP50 < arguments.require:
            print(f"box AP50 {result.box_AP50:.1f} is below the required {arguments.require:g}", file=sys.stderr)
            return 1
        return 0

    return guarded(action, memory_remedy="run it on the CPU: CUDA_VISIBLE_DEVICES= python tools/demo.py")


if __name__ == "__main__":
    sys.exit(main())
