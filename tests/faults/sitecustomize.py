"""Break a `tsm` process on purpose: Python runs this file first where its folder is on PYTHONPATH.

TSM_TEST_FAULT holds Python code. It runs once the module that TSM_TEST_FAULT_IN names has been imported.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from pathlib import Path


class _After(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        exec(os.environ["TSM_TEST_FAULT"], {"module": module, "fault": fault, "os": os, "sys": sys, "time": time})


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != os.environ.get("TSM_TEST_FAULT_IN"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = _After(spec.loader)
        return spec


def fault():
    """Note that the fault happens now."""
    Path(os.environ["TSM_TEST_FAULT_AT"]).touch()


if "TSM_TEST_FAULT" in os.environ:
    sys.meta_path.insert(0, _Finder())
