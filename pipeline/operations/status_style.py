"""The status page's style sheet: no build step, no external asset; light and dark by the reader's own preference."""

CSS = """
:root {
  --paper: #f6f7f9; --card: #fff; --ink: #1b2330; --soft: #5d6878; --line: #e3e7ed; --track: #e9edf2;
  --good: #1a7f4b; --good-bg: #e6f5ec; --warn: #96640a; --warn-bg: #fdf3dd; --bad: #b3261e; --bad-bg: #fdeae8;
  --open: #2f6fde; --parked: #e0a526; --halted: #cf3b32; --done: #43a373;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161d; --card: #1a2029; --ink: #e6eaf0; --soft: #97a3b4; --line: #2a323e; --track: #29313d;
    --good: #67cf97; --good-bg: #16301f; --warn: #ecbe62; --warn-bg: #35290f; --bad: #f2847c; --bad-bg: #3a1a18;
    --open: #6b9cf0; --parked: #d9a63b; --halted: #e2635a; --done: #4ea87b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 48px; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; justify-content: space-between; }
h1 { font-size: 20px; margin: 0; font-weight: 650; letter-spacing: -.01em; }
h1 span { color: var(--soft); font-weight: 400; }
h2 { font-size: 13px; margin: 0 0 10px; font-weight: 650; color: var(--soft); letter-spacing: .02em; }
.at, .verdict li span { color: var(--soft); }
.verdict { border-radius: 12px; padding: 16px 20px; margin: 16px 0; font-size: 17px; font-weight: 600; }
.verdict.good { background: var(--good-bg); color: var(--good); }
.verdict.warn { background: var(--warn-bg); color: var(--warn); }
.verdict.bad { background: var(--bad-bg); color: var(--bad); }
.verdict ul { list-style: none; margin: 10px 0 0; padding: 0; font-size: 14px; font-weight: 400; color: var(--ink); }
.verdict li { display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 6px 0; border-top: 1px solid var(--line); }
.verdict li b { font-weight: 500; flex: 1 1 380px; }
.verdict li b::before { content: "●"; margin-right: 8px; }
.verdict li.bad b::before { color: var(--bad); } .verdict li.warn b::before { color: var(--warn); }
code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-bottom: 16px; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 22px; font-weight: 620; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 12.5px; }
section { padding: 16px 20px 12px; margin-bottom: 16px; overflow-x: auto; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 0 16px; align-items: start; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 12.5px; padding: 2px 16px 6px 0;
  white-space: nowrap; }
td { padding: 7px 16px 7px 0; border-top: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.nb { white-space: nowrap; }
.soft { color: var(--soft); } .bad-text { color: var(--bad); } .warn-text { color: var(--warn); }
.good-text { color: var(--good); }
.bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--track); min-width: 120px;
  margin-top: 7px; }
.bar i { display: block; min-width: 3px; }
.open { background: var(--open); } .parked { background: var(--parked); }
.halted { background: var(--halted); } .done { background: var(--done); }
.legend { display: flex; gap: 16px; color: var(--soft); font-size: 12.5px; margin-top: 8px; flex-wrap: wrap; }
.legend i { display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 6px; }
.empty { color: var(--soft); margin: 0 0 4px; }
footer { color: var(--soft); font-size: 12.5px; }
@media (max-width: 560px) { main { padding: 16px 12px; } .two { grid-template-columns: 1fr; } }
"""
