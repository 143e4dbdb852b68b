"""The version of this package; imports nothing from pauth."""

__all__ = ["__version__"]

__version__ = "0.1.0"
