"""The names that one pickle has asked for, and the verdict on each."""

from __future__ import annotations

from ..file_bytes import shown
from .allowed import ALLOWED, Rule, renamed
from .foreign_names import MAX_NAMES, is_foreign, is_torch_class
from .stand_ins import Global, Named

ADVICE = "a state dict needs no code; ask for the weights alone, best as safetensors"


class Names:
    """`verdicts` maps each name met to whether it is allowed. With `listing` a name that is not becomes a stand-in
    rather than an error, so that all of them can be shown."""

    def __init__(self, error, listing: bool):
        self.error, self.listing = error, listing
        self.verdicts: dict[str, bool] = {}
        self.unsettled: list[str] = []  # spellings of getattr, until it is used as real files use it
        self._found: dict[tuple[str, str], Global | Named] = {}
        self._uncommon: set[str] = set()  # names outside the table, of which there is no end

    def is_new(self, module: str, name: str) -> bool:
        return (module, name) not in self._found

    def find(self, module: str, name: str) -> Global | Named:
        """The stand-in for a global; CheckpointError if it is neither in the table nor a foreign class."""
        known = self._found.get((module, name))
        if known is None:
            known = self._found[module, name] = self._admit(module, name)
        return known

    def _admit(self, module: str, name: str) -> Global | Named:
        full = f"{module}.{name}"
        rule = ALLOWED.get(renamed(full))
        if rule is None and is_torch_class(full):
            rule = Rule()
            self._count(full)
        if rule is None:
            return self.foreign(full) if is_foreign(module, name) else self.refuse(full)
        if rule.settled_by_use:
            self.unsettled.append(full)
            self.verdicts[full] = False
        self.verdicts.setdefault(full, True)
        return Global(renamed(full), rule.call, rule.dtype)

    def foreign(self, full: str, nested: bool = False) -> Named:
        """The stand-in for a class of a package that jvan knows nothing of."""
        self._count(full)
        self.verdicts.setdefault(full, True)
        return Named(full, nested)

    def _count(self, full: str) -> None:
        self._uncommon.add(full)
        if len(self._uncommon) > MAX_NAMES:
            raise self._refusal([full])

    def settle(self) -> None:
        """getattr was used as real files use it."""
        self.verdicts.update(dict.fromkeys(self.unsettled, True))
        self.unsettled.clear()

    def refuse(self, name: str) -> Global:
        """Raise, or, where the refused names are to be listed, stand in."""
        if len(self.verdicts) > 2 * MAX_NAMES:
            raise self._refusal([name])
        self.verdicts[name] = False
        if not self.listing:
            self.refuse_all()
        return Global(name, allowed=False)

    def refuse_all(self) -> None:
        """CheckpointError where any name was refused, or stands unsettled."""
        refused = [name for name, allowed in self.verdicts.items() if not allowed]
        if refused:
            raise self._refusal(refused) from None

    def _refusal(self, names: list[str]):
        kind = "globals" if self.listing or len(names) > 1 else "global"
        return self.error(f"refuses the pickle {kind} {', '.join(map(shown, names[:8]))}; {ADVICE}")
