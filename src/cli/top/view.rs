//! The model on a terminal of any size.

use offshoot_actors::types::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::super::output::{elapsed, printable, tokens};
use super::super::watch::{Row, Tone, details, line, money, name, usage};
use super::model::{Mode, Model};

/// A pane beside the tree needs this many columns; a lower one below it this many rows.
const WIDE: u16 = 120;
const HIGH: u16 = 18;
/// Tool calls that are shown of the selected run.
const CALLS: usize = 5;

const HELP: &[(&str, &str)] = &[
    ("↑ ↓ PgUp PgDn Home End", "go (also k j g G)"),
    ("← →", "close and open what is below; space toggles"),
    ("o", "order: name, state, elapsed, tokens, cost, mailbox"),
    ("/", "show only what has a text; Esc shows all again"),
    ("c", "cancel the runs of what is selected, and all below (asks)"),
    ("s", "steer: end the session's run and start one with a message"),
    ("l", "the transcript of the session; elsewhere the daemon's log"),
    ("r", "deliver a run's result again"),
    ("y", "copy the id"),
    ("Ctrl-L", "draw again"),
    ("q", "leave"),
];

/// Draws all of it. The model learns how much room there is.
pub(super) fn draw(model: &mut Model, frame: &mut Frame<'_>, colours: bool) {
    let paint = Paint(colours);
    let area = frame.area();
    let foot = u16::from(area.height > 2);
    let [head, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(foot)]).areas(area);
    header(model, frame, head, paint);
    let (tree, detail) = split(body);
    model.room = usize::from(tree.height.max(1));
    model.settle();
    rows(model, frame, tree, paint);
    if let Some(area) = detail {
        pane(model, frame, area, paint);
    }
    match &mut model.mode {
        Mode::Help => help(frame, body, paint),
        Mode::Log { title, lines, scroll } => *scroll = log(frame, body, title, lines, *scroll, paint),
        _ => {}
    }
    footer(model, frame, bottom, paint);
}

/// The tree, and where there is room for it what there is to see of the selected node.
fn split(area: Rect) -> (Rect, Option<Rect>) {
    let areas: [Rect; 2] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area)
    } else if area.height >= HIGH {
        Layout::vertical([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area)
    } else {
        return (area, None);
    };
    (areas[0], Some(areas[1]))
}

/// Colours, where they are wanted. Without them the words say it all.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn tone(self, tone: Tone) -> Style {
        let colour = |colour| if self.0 { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Dim if self.0 => Style::new().add_modifier(Modifier::DIM),
            Tone::Dim => Style::new(),
            Tone::Bold => Style::new().add_modifier(Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Busy => colour(Color::Cyan),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

fn header(model: &Model, frame: &mut Frame<'_>, area: Rect, paint: Paint) {
    let line = match model.trouble() {
        Some(trouble) => Line::styled(trouble, paint.tone(Tone::Bad)),
        None => summary(model, paint),
    };
    frame.render_widget(line, area);
}

fn summary(model: &Model, paint: Paint) -> Line<'static> {
    let (forest, now) = (&model.forest, model.now());
    let (totals, mut parts) = (&forest.totals, Vec::new());
    if forest.started_at.0 > 0 {
        parts.push(format!("up {}", elapsed(now - forest.started_at)));
    }
    parts.push(format!("{} actors", totals.actors));
    let runs = totals.runs;
    parts.push(format!("{} running, {} queued, {} waiting", runs.running, runs.queued, runs.yielded));
    parts.extend(forest.lanes.iter().map(|lane| {
        let queued = if lane.queued > 0 { format!(" +{}", lane.queued) } else { String::new() };
        format!("{} {}/{}{queued}", printable(&lane.name), lane.active, lane.limit)
    }));
    let cost = totals.spent.cost_usd.map(|cost| format!(" {}", money(cost))).unwrap_or_default();
    parts.push(format!("{}{cost}", tokens(usage(totals.spent.usage))));
    if forest.missing() > 0 {
        parts.push(format!("{} not shown", forest.missing()));
    }
    let by = Span::styled(format!("  by {}", model.sort.as_str()), paint.tone(Tone::Dim));
    Line::from(vec![Span::styled("offshoot  ", paint.tone(Tone::Bold)), Span::raw(parts.join("  ")), by])
}

fn rows(model: &Model, frame: &mut Frame<'_>, area: Rect, paint: Paint) {
    let (rows, now) = (model.rows(), model.now());
    if rows.is_empty() {
        let text = if model.filter.is_empty() {
            "waiting for the tree"
        } else {
            "nothing has this text; Esc shows all"
        };
        frame.render_widget(Line::styled(text, paint.tone(Tone::Dim)), area);
        return;
    }
    let shown = rows.iter().skip(model.top).take(usize::from(area.height));
    let lines: Vec<Line<'_>> = shown
        .map(|row| {
            let line = row_line(row, now, paint);
            let selected = Some(&*row.node.id) == model.selected.as_deref();
            if selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn row_line(row: &Row<'_>, now: Timestamp, paint: Paint) -> Line<'static> {
    let mut spans = vec![Span::styled(row.rails(), paint.tone(Tone::Dim))];
    let sign = match (row.has_children, row.collapsed) {
        (true, true) => "▸ ",
        (true, false) => "▾ ",
        (false, _) => "",
    };
    spans.push(Span::raw(sign));
    for (place, word) in line(row.node, now).into_iter().enumerate() {
        if place > 0 {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(word.text, paint.tone(word.tone)));
        // Behind the name: what comes at the end of a line may be cut off.
        if place == 0 && row.hidden > 0 {
            spans.push(Span::styled(format!("  … {} below", row.hidden), paint.tone(Tone::Dim)));
        }
    }
    Line::from(spans)
}

fn pane(model: &Model, frame: &mut Frame<'_>, area: Rect, paint: Paint) {
    let Some(node) = model.node() else { return };
    let block = Block::bordered().title(format!(" {} ", name(node)));
    let now = model.now();
    let mut lines: Vec<Line<'_>> = super::super::watch::marks(node, now)
        .into_iter()
        .map(|word| Line::styled(word.text, paint.tone(word.tone)))
        .collect();
    lines.extend(details(node, now).into_iter().map(|(name, value)| {
        Line::from(vec![Span::styled(format!("{name:<11}"), paint.tone(Tone::Dim)), Span::raw(value)])
    }));
    let calls: Vec<String> = model.live.calls().take(CALLS).collect();
    if !calls.is_empty() {
        lines.push(Line::styled("tool calls", paint.tone(Tone::Bold)));
        lines.extend(calls.into_iter().map(Line::raw));
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let text = match (&*model.live.text, node.run.as_ref().and_then(|run| run.text.as_deref())) {
        ("", told) => printable(told.unwrap_or_default()),
        (live, _) => live.to_owned(),
    };
    let facts = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(inner.height);
    let [above, below] = Layout::vertical([Constraint::Length(facts), Constraint::Min(0)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), above);
    if !text.is_empty() && below.height > 1 {
        frame.render_widget(Line::styled("text", paint.tone(Tone::Bold)), below);
        let area = Rect { y: below.y + 1, height: below.height - 1, ..below };
        frame.render_widget(Paragraph::new(end_of(&text, area)), area);
    }
}

/// The last lines of a text, as wide as there is room for.
fn end_of(text: &str, area: Rect) -> Vec<Line<'static>> {
    let mut lines = wrapped(text.lines(), area.width);
    lines.split_off(lines.len().saturating_sub(usize::from(area.height)))
}

/// Lines that are as wide as there is room for.
fn wrapped<'a>(lines: impl Iterator<Item = &'a str>, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width.max(1));
    let mut wrapped = Vec::new();
    for line in lines {
        let mut rest = line;
        loop {
            let head = match super::super::tree::cut(rest, width) {
                // One character is wider than all of it.
                "" => rest.chars().next().map_or("", |c| &rest[..c.len_utf8()]),
                head => head,
            };
            wrapped.push(Line::raw(head.to_owned()));
            rest = &rest[head.len()..];
            if rest.is_empty() {
                break;
            }
        }
    }
    wrapped
}

fn help(frame: &mut Frame<'_>, area: Rect, paint: Paint) {
    let lines = HELP.iter().map(|(keys, what)| {
        Line::from(vec![Span::styled(format!("{keys:<24}"), paint.tone(Tone::Bold)), Span::raw(*what)])
    });
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys; any key closes this ");
    frame.render_widget(
        Paragraph::new(lines.collect::<Vec<_>>()).block(block).wrap(Wrap { trim: false }),
        area,
    );
}

/// Draws a log. Returns from which line on: no further than that the last one is at the bottom.
fn log(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: &[String],
    scroll: usize,
    paint: Paint,
) -> usize {
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(format!(" {} ", printable(title)));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if lines.is_empty() {
        frame.render_widget(Line::styled("nothing yet", paint.tone(Tone::Dim)), inner);
        return 0;
    }
    let lines = wrapped(lines.iter().map(String::as_str), inner.width);
    let height = usize::from(inner.height);
    let scroll = scroll.min(lines.len().saturating_sub(height));
    let shown: Vec<Line<'_>> = lines.into_iter().skip(scroll).take(height).collect();
    frame.render_widget(Paragraph::new(shown), inner);
    scroll
}

fn footer(model: &Model, frame: &mut Frame<'_>, area: Rect, paint: Paint) {
    if area.height == 0 {
        return;
    }
    let typed = |before: String, text: &str| {
        let room = usize::from(area.width).saturating_sub(1);
        let whole = format!("{before}{text}");
        // What was typed last is what a person looks at.
        let from = whole.chars().count().saturating_sub(room);
        Line::raw(format!("{}▏", whole.chars().skip(from).collect::<String>()))
    };
    let line = match &model.mode {
        Mode::Filter => typed("/".to_owned(), &model.filter),
        Mode::Steer { session, text } => typed(format!("steer {session}, which ends its run: "), text),
        Mode::Cancel { what, runs } => {
            let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
            Line::styled(format!("cancel {what}, {count}? [y/n]"), paint.tone(Tone::Warn))
        }
        Mode::Log { .. } => Line::styled("↑↓ scroll  q back", paint.tone(Tone::Dim)),
        Mode::Tree | Mode::Help => match &model.status {
            Some(status) => {
                let tone = if status.bad { Tone::Bad } else { Tone::Good };
                Line::styled(status.text.clone(), paint.tone(tone))
            }
            None if !model.filter.is_empty() => {
                Line::raw(format!("with \"{}\"; Esc shows all", model.filter))
            }
            None => {
                let keys = "? help  / filter  o order  c cancel  s steer  l log  r retry  y copy  q quit";
                Line::styled(keys, paint.tone(Tone::Dim))
            }
        },
    };
    frame.render_widget(line, area);
}
