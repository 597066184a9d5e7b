# SPDX-License-Identifier: BSD-3-Clause
"""Tables (markdown) and plots (SVG) of a comparison."""

import html
import statistics

COLOURS = {
    "ringbolt-blk": "#1f6fb4",
    "ringbolt-blk packed": "#6db3e8",
    "qemu-storage-daemon": "#c8672e",
    "uring-limit": "#8a8a8a",
    "ringbolt-net": "#1f6fb4",
    "net_vhost": "#8a8a8a",
    "OVS-DPDK": "#c8672e",
}
OTHER_COLOUR = "#4d8f4d"


def spread(values):
    """(minimum, median, maximum)."""
    return min(values), statistics.median(values), max(values)


def si(value):
    """1234567 -> 1.23 M."""
    for limit, unit in ((1e6, " M"), (1e3, " K")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}" if value < 1000 * limit else f"{value / limit:.0f}{unit}"
    return f"{value:.3g}"


def micro(ns):
    return f"{ns / 1000:.2f}" if ns < 1e5 else f"{ns / 1000:.0f}"


def table(header, rows):
    """Markdown; the first column is left-aligned, the others right."""
    lines = ["| " + " | ".join(header) + " |",
             "|---" + "|--:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def svg_bars(title, unit, groups):
    """Horizontal bars with whiskers from minimum to maximum.

    groups: [(label, [(name, (minimum, median, maximum)), ...]), ...]. Each group
    has its own scale, its longest bar being full length, because rates of
    different work differ a thousandfold; the figures are written beside."""
    left, width, right = 210, 470, 240
    bar, gap, top = 17, 14, 58
    names = []
    for _, bars in groups:
        names += [n for n, _ in bars if n not in names]
    height = top + sum(len(b) * bar + gap for _, b in groups) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + right}" '
           f'height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="12" y="22" font-size="15" font-weight="bold">{html.escape(title)}</text>']
    x = 12
    for name in names:
        out.append(f'<rect x="{x}" y="33" width="11" height="11" fill="{COLOURS.get(name, OTHER_COLOUR)}"/>')
        out.append(f'<text x="{x + 16}" y="43">{html.escape(name)}</text>')
        x += 34 + 7 * len(name)
    y = top
    for label, bars in groups:
        scale = width / max(hi for _, (_, _, hi) in bars)
        middle = y + len(bars) * bar / 2 + 4
        out.append(f'<text x="{left - 10}" y="{middle:.0f}" text-anchor="end">{html.escape(label)}</text>')
        for name, (lo, mid, hi) in bars:
            c = y + bar / 2
            out.append(f'<rect x="{left}" y="{y + 2}" width="{mid * scale:.1f}" height="{bar - 4}" '
                       f'fill="{COLOURS.get(name, OTHER_COLOUR)}"/>')
            out.append(f'<path d="M{left + lo * scale:.1f} {c} H{left + hi * scale:.1f} '
                       f'M{left + lo * scale:.1f} {c - 4} v8 M{left + hi * scale:.1f} {c - 4} v8" '
                       f'stroke="#222222" fill="none"/>')
            out.append(f'<text x="{left + max(hi, mid) * scale + 7:.1f}" y="{c + 4:.1f}">'
                       f'{html.escape(si(mid) + unit)}</text>')
            y += bar
        y += gap
    out.append(f'<line x1="{left}" y1="{top - 4}" x2="{left}" y2="{y - gap + 4}" stroke="#222222"/>')
    out.append(f'<text x="{left}" y="{y + 14}" fill="#555555">Bar: median; whisker: minimum to '
               f'maximum. Each group has its own scale.</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
