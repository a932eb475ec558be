"""Style sheet and script of the report: light and dark, nothing loaded from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2430; --dim: #5b6675; --rule: #dfe3e8;
  --c1: #0b66b3; --c2: #c2500a; --c3: #0a7d5b; --c4: #9b3f86; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { --page: #12161c; --card: #1b212a; --ink: #e6eaf0;
  --dim: #9aa6b5; --rule: #303946; --c1: #5cb3ff; --c2: #ff9a57; --c3: #3fcf9f; --c4: #e48fd0; } }
:root[data-theme=dark] { color-scheme: dark; --page: #12161c; --card: #1b212a; --ink: #e6eaf0; --dim: #9aa6b5;
  --rule: #303946; --c1: #5cb3ff; --c2: #ff9a57; --c3: #3fcf9f; --c4: #e48fd0; }
:root[data-theme=light] { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
header { display: flex; gap: 16px; align-items: flex-start; justify-content: space-between; }
a { color: var(--c1); }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 0 0 10px; } h3 { font-size: 15px; margin: 18px 0 6px; }
p { margin: 4px 0 10px; } .dim, figcaption, .tick, .label { color: var(--dim); } .dim { overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 18px 20px;
  margin: 16px 0; }
button { white-space: nowrap; font: inherit; color: inherit; background: none; border: 1px solid var(--rule);
  border-radius: 6px; padding: 3px 10px; cursor: pointer; } button:focus-visible { outline: 2px solid var(--c1); }
.warning { border-left: 4px solid var(--c2); padding: 6px 12px; background: var(--card); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 14px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 4px 0 10px; }
th, td { text-align: right; padding: 4px 12px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--dim); font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.settings td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th.text, td.text { text-align: left; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 18px; }
.row.three { grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--rule); stroke-width: 1; } .tick, .label { fill: var(--dim); font-size: 11px; }
.label { font-size: 12px; }
.line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; } circle { fill: currentColor; }
path.dashed { stroke-dasharray: 6 4; }
.c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); } .c4 { color: var(--c4); }
.legend { display: flex; flex-wrap: wrap; gap: 6px; justify-content: center; font-size: 12px; }
.key { font-size: 12px; white-space: normal; text-align: left; }
.key i { display: inline-block; width: 18px; border-top: 3px solid currentColor;
  margin-right: 6px; vertical-align: middle; } .key i.dashed { border-top-style: dashed; }
.key[aria-pressed=false] { opacity: .45; }
.hidden { display: none; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 10px; }
.maps img { width: 100%; display: block; border-radius: 4px; cursor: zoom-in; image-rendering: pixelated; }
.maps img.photo { image-rendering: auto; } .maps img.photo + figcaption { margin-top: 20px; }
.maps figure.large { grid-column: 1 / -1; } .maps figure.large img { cursor: zoom-out; } figcaption { font-size: 12px; }
.bar { display: flex; align-items: center; gap: 6px; font-size: 11px; color: var(--dim); margin-top: 3px; }
.bar i { flex: 1; height: 7px; border-radius: 3px; }
.notes li { margin: 2px 0; }
summary { cursor: pointer; font-size: 18px; font-weight: 600; overflow-wrap: anywhere; }
td a { white-space: normal; overflow-wrap: anywhere; }
details { scroll-margin-top: 14px; } details > section { border: none; padding: 0; }
@media print { button.theme { display: none; } section { break-inside: avoid; } }
"""

SCRIPT = """
'use strict';
const root = document.documentElement, theme = document.querySelector('button.theme');
theme.addEventListener('click', () => {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
});
for (const key of document.querySelectorAll('.key[data-line]')) key.addEventListener('click', () => {
  const line = key.closest('figure').querySelector(`g[data-line="${key.dataset.line}"]`);
  const hidden = line.classList.toggle('hidden');
  key.setAttribute('aria-pressed', String(!hidden));
});
for (const image of document.querySelectorAll('.maps img')) image.addEventListener('click', () =>
  image.closest('figure').classList.toggle('large'));
// A link to a recording opens what is folded up there; so does the address of the page that names one.
const unfold = hash => {
  const part = hash && document.getElementById(hash.slice(1));
  if (part && part.tagName === 'DETAILS') part.open = true;
  return part;
};
addEventListener('click', event => {
  const link = event.target.closest('a[href^="#"]');
  if (link) unfold(link.hash);
});
addEventListener('hashchange', () => unfold(location.hash)?.scrollIntoView());
unfold(location.hash);
"""
