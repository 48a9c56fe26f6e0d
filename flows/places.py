"""Where the shipped configurations and workspaces lie; apart, because the command line needs it before all else."""

from pathlib import Path

SHIPPED_CONFIGS = Path(__file__).with_name("configs")
DEFAULT_WORKSPACE = "workspace"


def shipped_configs() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(path.stem for path in SHIPPED_CONFIGS.glob("*.yaml"))
