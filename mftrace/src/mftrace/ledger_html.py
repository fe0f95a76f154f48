"""A ledger as HTML, for notebooks. All that comes from the graph is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from mftrace.format import format_array
from mftrace.guard_report import printable
from mftrace.ledger import Account, Ledger
from mftrace.ledger_text import Signs, chain_rule, folded, heading, sender, steps

_SIGNS = Signs("\N{PARTIAL DIFFERENTIAL}", " \N{DOT OPERATOR} ")
_CELL = 'style="text-align:left;vertical-align:top"'


def ledger_html(ledger: Ledger, shown: int | None) -> str:
    """Return a ledger as HTML, folded in the middle beyond ``shown`` nodes."""
    return "".join(_ledger(ledger, shown))


def _ledger(ledger: Ledger, shown: int | None) -> Iterator[str]:
    of, node = escape(printable(ledger.of)), escape(printable(ledger.node))
    yield '<div class="miniflow-ledger">'
    yield f"<p>Gradient of <code>{of}</code> with respect to <code>{node}</code></p>"
    if ledger.reason:
        yield f"<p>None: {escape(printable(ledger.reason))}</p></div>"
        return
    yield _pre("\n".join(chain_rule(ledger, shown, _SIGNS)))
    accounts, place, left_out = folded(ledger.accounts, shown)
    for i, account in enumerate(accounts):
        if left_out and i == place:
            yield f"<p>&hellip; {left_out} nodes between</p>"
        yield from _account(account, is_open=i == len(accounts) - 1)
    if ledger.note:
        yield f"<p>{escape(ledger.note)}</p>"
    yield "</div>"


def _account(account: Account, *, is_open: bool) -> Iterator[str]:
    yield f"<details{' open' if is_open else ''}><summary><code>{escape(heading(account))}"
    yield "</code></summary>"
    if account.meaning:
        yield f"<p>{escape(printable(account.meaning))}</p>"
    yield "<table><thead><tr>"
    yield "".join(f'<th scope="col" {_CELL}>{name}</th>' for name in _COLUMNS)
    yield "</tr></thead><tbody>"
    for contribution, so_far in zip(account.contributions, account.sums, strict=True):
        who, how = "the seed", ""
        if contribution.sender:
            who, how = sender(contribution), "\n".join(steps(account, contribution))
        sent, total = format_array(contribution.gradient), format_array(so_far)
        cells = (escape(who), _pre(how), _pre(sent), _pre(total))
        yield f"<tr>{''.join(f'<td {_CELL}>{cell}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></details>"


_COLUMNS = ("from", "how", "sent", "sum so far")


def _pre(text: str) -> str:
    return f'<pre style="margin:0">{escape(text)}</pre>' if text else ""
