"""Print a resolved configuration as YAML: irl show_config CONFIG.yaml [key=value ...] [--key KEY]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl.core import config
from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.training.registry import read_config


def main() -> None:
    import yaml

    parser = Parser(prog="irl show_config", description="Print a resolved configuration.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--key", help="only this value")
    args = parser.parse_intermixed_args()
    content: Any = config.to_dict(read_config(args.config, args.overrides))
    for step in args.key.split(".") if args.key else ():
        if not isinstance(content, dict) or step not in content:
            raise UserError(f"{args.config}: no key {args.key}")
        content = content[step]
    print(content if args.key else yaml.safe_dump(content, sort_keys=False), end="\n" if args.key else "")


if __name__ == "__main__":
    run_command(main)
