//! `docs/s3.md` says what the code does.

use cairn_daemon::s3::op::{Level, MISSING, ROWS};

/// The rows of the table below a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../../docs/s3.md");
    let (_, rest) = text.split_once(heading).expect("the heading");
    let lines = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn path(level: Level, param: &str) -> String {
    let path = match level {
        Level::Service => "/",
        Level::Bucket => "/bucket",
        Level::Object => "/bucket/key",
    };
    match param {
        "" => path.to_owned(),
        "list-type" => format!("{path}?list-type=2"),
        param => format!("{path}?{param}"),
    }
}

#[test]
fn the_support_table_is_what_the_code_does() {
    let documented = table("## Operations");
    let expected =
        ROWS.iter().map(|row| (row.op.name().to_owned(), format!("`{} {}`", row.method, path(row.level, row.param))));
    for ((name, how), cells) in expected.zip(&documented) {
        assert_eq!(name, cells[0]);
        assert!(cells[1].starts_with(&how), "{name}: {} instead of {how}", cells[1]);
    }
    assert_eq!(documented.len(), ROWS.len());
    let refused = table("## Answered 501");
    let expected = MISSING
        .iter()
        .map(|(method, level, param, name)| vec![(*name).to_owned(), format!("`{method} {}`", path(*level, param))]);
    assert_eq!(refused, expected.collect::<Vec<_>>());
}
