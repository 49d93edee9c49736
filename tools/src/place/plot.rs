//! A plot of how full nodes are, as SVG: one bar a node, least full first, a line at the mean.

const WIDTH: u64 = 1000;
const HEIGHT: u64 = 300;

pub(super) fn svg(mut held: Vec<u64>) -> String {
    held.sort_unstable();
    let count = (held.len() as u64).max(1);
    let most = held.last().copied().unwrap_or(0).max(1);
    let mean = held.iter().sum::<u64>() / count;
    // In hundredths of a unit, so that a thousand bars fit without rounding to nothing.
    let bar = |(at, partitions): (u64, &u64)| {
        let (x, width, height) = (at * WIDTH * 100 / count, WIDTH * 100 / count, partitions * HEIGHT * 100 / most);
        format!(r#"<rect x="{x}" y="{}" width="{width}" height="{height}"/>"#, HEIGHT * 100 - height)
    };
    let bars: Vec<String> = (0..).zip(&held).map(bar).collect();
    let line = (HEIGHT - mean * HEIGHT / most) * 100;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{WIDTH}" height="{HEIGHT}">
<title>Partitions per node: {count} nodes, mean {mean}, most {most}</title>
<g fill="#47a">{bars}</g>
<line x1="0" x2="{w}" y1="{line}" y2="{line}" stroke="#c30" stroke-width="150"/>
</svg>
"##,
        w = WIDTH * 100,
        h = HEIGHT * 100,
        bars = bars.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_bar() {
        assert_eq!(svg(vec![3, 1, 2]).matches("<rect").count(), 3);
        assert!(svg(vec![3, 1, 2]).contains("mean 2, most 3"));
        assert_eq!(svg(vec![]).matches("<rect").count(), 0, "nothing to draw is no panic");
    }
}
