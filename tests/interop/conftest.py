"""Fixtures of the interoperability tests: those of the guest tests.

SPDX-License-Identifier: BSD-3-Clause
"""
import importlib.util
import pathlib

_vm = pathlib.Path(__file__).resolve().parent.parent / "vm/conftest.py"
_spec = importlib.util.spec_from_file_location("vm_conftest", _vm)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

pytest_configure = _module.pytest_configure
logs = _module.logs
new_folder = _module.new_folder
workdir = _module.workdir
