"""The list of stages is that of the modules of ``tasks``."""

import importlib
import pkgutil

import tasks
from flows.stages import STAGES


def test_every_stage_is_listed_once_under_the_name_of_its_module():
    modules = [module.name for module in pkgutil.iter_modules(tasks.__path__) if not module.ispkg]
    declared = {name: importlib.import_module(f"tasks.{name}").STAGE for name in modules}
    assert sorted(stage.name for stage in STAGES) == sorted(modules)
    assert all(declared[stage.name] is stage for stage in STAGES)
