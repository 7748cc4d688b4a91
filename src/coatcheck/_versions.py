"""A framework that is too old is told when its adapter is imported, and not by an AttributeError at the first request."""

from importlib.metadata import version

from coatcheck.errors import ConfigurationError

__all__ = ["need", "numbers"]


def need(package: str, oldest: str) -> None:
    """Raise ConfigurationError if the package that is installed is older than `oldest`, such as "3.0"."""
    installed = version(package)
    if numbers(installed) < numbers(oldest):
        raise ConfigurationError(
            f"{package} {installed} is too old for coatcheck, which needs {oldest}: pip install -U '{package}>={oldest}'"
        )


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, up to where they end: "3.0.0rc1" is (3, 0)."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
