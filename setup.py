"""Maps the folder ``src`` to the import package ``phalanx``; everything else is in setup.cfg."""

from setuptools import find_packages, setup

setup(
    package_dir={"phalanx": "src"},
    packages=["phalanx", *(f"phalanx.{name}" for name in find_packages("src"))],
)
