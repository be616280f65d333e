"""The call that loaded a data set."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Origin"]

#: Most characters of a line of code.
_WIDTH = 88


@dataclass(frozen=True)
class Origin:
    """The call that loaded a data set, which the report of a study writes down.

    Every loader returns it under the key ``origin``.

    Parameters
    ----------
    function : str
        Name of the function that was called.
    positional : tuple, default=()
        Arguments without a name.
    named : dict, default={}
        Arguments by name.

    Examples
    --------
    >>> from skimbal.datasets import Origin, load_imbalanced_digits
    >>> load_imbalanced_digits(imbalance=20).origin.code()
    'load_imbalanced_digits(imbalance=20)'
    >>> Origin("load_npz", ("/data/my.npz",), {"groups": "patient"}).code()
    "load_npz('/data/my.npz', groups='patient')"
    """

    function: str
    positional: tuple[object, ...] = ()
    named: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of_call(cls, function: Callable[..., object], **arguments: object) -> "Origin":
        """Leave out the arguments that are defaults, and make paths absolute.

        Parameters
        ----------
        function : callable
            The function.
        **arguments : dict
            All its arguments. Path-like objects are paths, and text is text.

        Returns
        -------
        origin : Origin
            The call.

        Examples
        --------
        >>> from skimbal.datasets import Origin, load_npz
        >>> Origin.of_call(load_npz, path="/data/my.npz", groups=None, n_spatial=3).code()
        "load_npz('/data/my.npz', n_spatial=3)"
        """
        values = {
            name: os.path.abspath(value) if isinstance(value, os.PathLike) else value
            for name, value in arguments.items()
        }
        parameters = inspect.signature(function).parameters
        positional = [
            name
            for name, parameter in parameters.items()
            if name in values
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            and parameter.default is parameter.empty
        ]
        named = {
            name: value
            for name, value in values.items()
            if name not in positional
            and not (name in parameters and repr(value) == repr(parameters[name].default))
        }
        return cls(function.__name__, tuple(values[name] for name in positional), named)

    def code(self) -> str:
        """Write the call as Python code.

        Returns
        -------
        code : str
            One line, or a line for each argument if one line would have more than 88 characters.

        Examples
        --------
        >>> from skimbal.datasets import Origin
        >>> Origin("load_npz", ("/data/my.npz",)).code()
        "load_npz('/data/my.npz')"
        """
        arguments = [*map(repr, self.positional), *(f"{k}={v!r}" for k, v in self.named.items())]
        line = f"{self.function}({', '.join(arguments)})"
        if len(line) <= _WIDTH:
            return line
        return "\n    ".join([f"{self.function}(", *(f"{text}," for text in arguments)]) + "\n)"
