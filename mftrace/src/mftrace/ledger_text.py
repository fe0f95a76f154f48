"""A ledger as text: the chain rule, and the account of each node on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from mftrace.format import format_array
from mftrace.guard_report import printable
from mftrace.ledger import Account, Contribution, Ledger

_WIDTH = 72  # characters of a product on one line
_PATHS = 4  # paths that are written out as products; where there are more, each node has a line


@attrs.frozen
class Signs:
    """How products are written, and the derivatives of one operation by one of its inputs."""

    d: str = "d "
    times: str = " * "


def chain_rule(ledger: Ledger, shown: int | None, signs: Signs) -> list[str]:
    """Return the chain rule from the cost back to the node, one line for each sum.

    Up to a few paths are products of all factors; where there are more, each node's
    derivative is a sum over its consumers.
    """
    left = f"gradient of {_name(ledger.node)}"
    if not ledger.accounts:
        return [f"{left} = 0"]
    if len(ledger.accounts) == 1:
        return [f"{left} = the seed"]
    paths = _paths(ledger.accounts)
    if len(paths) <= _PATHS:
        return _sum(left, [_product(_folded(path, shown, signs), signs) for path in paths])
    lines: list[str] = []
    accounts = list(ledger.accounts[:0:-1])
    for account in accounts if shown is None else accounts[:shown]:
        terms = [
            _through(ledger.of, account, contribution, signs)
            for contribution in account.contributions
        ]
        lines += _sum(f"gradient of {_name(account.name)}", terms)
    if shown is not None and len(accounts) > shown:
        lines.append(f"... and so on for {len(accounts) - shown} more nodes up to {ledger.of}")
    return lines


def _name(name: str) -> str:
    return printable(name)


def _sum(left: str, terms: Sequence[str]) -> list[str]:
    """Return a sum, each term on a line of its own, or on several if it has as many."""
    lines: list[str] = []
    for i, term in enumerate(terms):
        before = f"{left if not i else ' ' * len(left)} {'+' if i else '='} "
        lines += _after(before, term).splitlines()
    return lines


def _product(factors: Sequence[str], signs: Signs) -> str:
    """Return a product, on several lines if it is long."""
    lines = [factors[0]]
    for factor in factors[1:]:
        if len(lines[-1]) + len(signs.times) + len(factor) > _WIDTH:
            lines.append(f"{signs.times.lstrip()}{factor}")
        else:
            lines[-1] += f"{signs.times}{factor}"
    return "\n".join(lines)


def _through(of: str, account: Account, contribution: Contribution, signs: Signs) -> str:
    step = _step(account, contribution, signs)
    if contribution.sender == of:
        return step
    return f"(gradient of {_name(contribution.sender)}){signs.times}{step}"


def _step(account: Account, contribution: Contribution, signs: Signs) -> str:
    """Return one factor: the derivative of a consumer by the node that it reads."""
    step = f"{signs.d}{_name(contribution.sender)}/{signs.d}{_name(account.name)}"
    senders = [other.sender for other in account.contributions]
    return f"{step} as {contribution.field}" if senders.count(contribution.sender) > 1 else step


_Path = list[tuple[Account, Contribution]]


def _paths(accounts: Sequence[Account]) -> list[_Path]:
    """Return the paths from the node to the cost, at most one more than are written out."""
    by_name = {account.name: account for account in accounts}
    first = accounts[-1]
    unfinished: list[_Path] = [[(first, c)] for c in first.contributions]
    finished: list[_Path] = []
    while unfinished and len(finished) + len(unfinished) <= _PATHS:
        path = unfinished.pop(0)
        account = by_name[path[-1][1].sender] if path[-1][1].sender else None
        if account is None or account is accounts[0]:
            finished.append(path)
        else:
            # The first consumer goes on in place, so that the order of the sum is kept.
            ends = [(account, contribution) for contribution in account.contributions]
            unfinished[:0] = [[*path, end] for end in ends[1:]]
            path.append(ends[0])
            unfinished.insert(0, path)
    return finished + unfinished


def _folded(path: _Path, shown: int | None, signs: Signs) -> list[str]:
    """Return the factors of a path, from the cost to the node, the middle left out if long."""
    steps = path[::-1]
    if shown is None or len(steps) <= shown:
        return [_step(account, contribution, signs) for account, contribution in steps]
    half = max(shown // 2, 1)
    ends = [[_step(a, c, signs) for a, c in part] for part in (steps[:half], steps[-half:])]
    return [*ends[0], f"({len(steps) - 2 * half} more)", *ends[1]]


def folded(accounts: Sequence[Account], shown: int | None) -> tuple[Sequence[Account], int, int]:
    """Return which accounts to show, and where how many of them are left out."""
    if shown is None or len(accounts) <= shown:
        return accounts, 0, 0
    half = max(shown // 2, 1)
    return [*accounts[:half], *accounts[-half:]], half, len(accounts) - 2 * half


def ledger_text(ledger: Ledger, shown: int | None) -> str:
    """Return a ledger as text, folded in the middle beyond ``shown`` nodes."""
    lines = [f"gradient of {_name(ledger.of)} with respect to {_name(ledger.node)}", ""]
    if ledger.reason:
        lines += [f"  none: {printable(ledger.reason)}"]
        return "\n".join(lines)
    lines += [f"  {line}" for line in chain_rule(ledger, shown, Signs())]
    accounts, place, left_out = folded(ledger.accounts, shown)
    for i, account in enumerate(accounts):
        if left_out and i == place:
            lines += ["", f"... {left_out} nodes between, all in ledger.text(None)"]
        lines += ["", *_account(account)]
    if ledger.note:
        lines += ["", ledger.note]
    return "\n".join(lines)


def _account(account: Account) -> Iterator[str]:
    yield heading(account)
    if account.meaning:
        yield f"  {printable(account.meaning)}"
    rows: list[tuple[str, str]] = []
    last = len(account.contributions) - 1
    for i, (contribution, so_far) in enumerate(
        zip(account.contributions, account.sums, strict=True)
    ):
        sent = format_array(contribution.gradient)
        label = f"from {sender(contribution)}" if contribution.sender else "seed"
        if found := steps(account, contribution):
            sent = "\n".join([*found, _after("= ", sent)])
        rows.append((label, sent))
        if 0 < i < last:
            rows.append(("sum so far", format_array(so_far)))
    rows.append(("gradient", format_array(account.gradient) if last else "the same"))
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        first, *more = text.splitlines()
        yield f"    {label:{width}}  {first}"
        yield from (f"    {'':{width}}  {line}" for line in more)


def _after(mark: str, text: str) -> str:
    """Return a text of several lines behind a mark."""
    return mark + text.replace("\n", f"\n{' ' * len(mark)}")


def heading(account: Account) -> str:
    """Return what a node is: ``linear_1 = Linear(X=X, W=W1, b=b)``."""
    if not account.inputs:
        return f"{_name(account.name)}  {account.operation}"
    inputs = ", ".join(f"{field}={_name(name)}" for field, name in account.inputs)
    return f"{_name(account.name)} = {account.operation}({inputs})"


def sender(contribution: Contribution) -> str:
    """Return who sent something, and for which of its inputs."""
    return f"{_name(contribution.sender)} for {contribution.field}"


def steps(account: Account, contribution: Contribution) -> list[str]:
    """Return how a contribution was computed, step by step."""
    found = []
    how = contribution.derivative
    if how.formula:
        found.append(how.formula)
        found += [f"  where {assignment}" for assignment in how.where]
    if contribution.sum_of is not None:
        axes = ", ".join(map(str, contribution.axes))
        many = "axes" if len(contribution.axes) > 1 else "axis"
        found.append(
            f"summed over {many} {axes}, along which {_name(account.name)} was repeated: "
            f"{contribution.sum_of} to {contribution.gradient.shape}"
        )
    return found
