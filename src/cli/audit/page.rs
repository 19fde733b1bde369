//! A report as one page.

use std::collections::BTreeMap;

use super::super::html::{Page, escaped};
use super::super::text::time;
use super::verify::{Checked, anchored};
use crate::audit::reading::anchors::Anchor;
use crate::audit::reading::tally::{List, MAX_BARS, Outcomes, Tally, Times};
use crate::clock::Moment;

/// The newest checkpoints of a list.
const MAX_CHECKPOINTS: usize = 20;
/// The most frequent refusals of a list.
const MAX_REFUSALS: usize = 50;
/// The size of the chart over time.
const CHART: (u64, u64) = (900, 160);
/// The length of the longest bar beside a number.
const BAR: u64 = 200;

const MORE_STYLE: &str = "<style>.o{fill:#2b6cb0}.r{fill:#d69e2e}.f{fill:#c53030}svg{max-width:100%;height:auto;background:#f7f7f7}\
    td.n{text-align:right;font-variant-numeric:tabular-nums}.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}</style>";

/// What the page says.
pub(super) struct Report<'a> {
    /// From and to, as it was asked for.
    pub(super) period: (Option<String>, Option<String>),
    pub(super) made: Moment,
    pub(super) tally: &'a Tally,
    pub(super) checked: &'a Checked,
    pub(super) wrong: Option<&'a str>,
    pub(super) unproven: &'a [String],
}

impl Report<'_> {
    pub(super) fn html(&self) -> String {
        let mut page = Page::new("Audit report");
        page.raw(MORE_STYLE);
        page.raw("<h1>Audit report</h1>");
        self.head(&mut page);
        self.checkpoints(&mut page);
        self.counts(&mut page);
        self.refusals(&mut page);
        list(&mut page, "Keys", "No key changed.", &self.tally.keys);
        list(&mut page, "Gaps, and what else stands out", "Nothing.", &self.tally.notable);
        list(&mut page, "Starts and ends of the daemon", "None.", &self.tally.runs);
        page.end()
    }

    fn head(&self, page: &mut Page) {
        let tally = self.tally;
        let seen = |at: &Option<(u64, String)>| {
            at.as_ref().map_or_else(|| "none".to_owned(), |(seq, time)| format!("{seq}, of {time}"))
        };
        let asked = |at: &Option<String>, or: &str| at.clone().unwrap_or_else(|| or.to_owned());
        let (since, until) = &self.period;
        page.rows(&[
            ("Period", format!("{} to {}", asked(since, "the first record"), asked(until, "the last record"))),
            ("Records", tally.records.to_string()),
            ("First", seen(&tally.first)),
            ("Last", seen(&tally.last)),
            ("Made", format!("{} by passportctl {}", time(self.made.unix()), env!("CARGO_PKG_VERSION"))),
        ]);
        page.heading("Verified");
        match self.wrong {
            Some(wrong) => {
                page.raw(&format!("<p class=bad>NOT VALID: {}", escaped(wrong)));
                page.paragraph("What follows was counted up to there.");
            }
            None => {
                let anchored = anchored(self.checked.anchor());
                page.raw(&format!("<p class=good>Every record follows the one before it; {}.", escaped(&anchored)));
            }
        }
        for one in self.unproven {
            page.paragraph(&format!("Not proven: {one}."));
        }
    }

    fn checkpoints(&self, page: &mut Page) {
        page.heading("Checkpoints");
        let micros = |text: &String| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
        let (since, until) = (self.period.0.as_ref().and_then(micros), self.period.1.as_ref().and_then(micros));
        let within = |anchor: &Anchor| {
            let at = anchor.checkpoint.time;
            since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until)
        };
        // Those from the first record on to the newest that fits were compared, all of them.
        let compared = self.checked.compared();
        let all: Vec<_> = self.checked.anchors.iter().enumerate().filter(|(_, anchor)| within(anchor)).collect();
        if all.is_empty() {
            page.paragraph("None of that time was shown.");
            return;
        }
        page.paragraph(&format!("{} of that time were shown; the newest of them:", all.len()));
        let rows = all.iter().rev().take(MAX_CHECKPOINTS).map(|(at, anchor)| {
            let fits = if compared.contains(at) { "yes" } else { "not compared" };
            let by = anchor.by.clone().unwrap_or_else(|| "not checked".to_owned());
            vec![
                time(anchor.checkpoint.time),
                anchor.checkpoint.size.to_string(),
                by,
                fits.to_owned(),
                anchor.source.clone(),
            ]
        });
        page.table(&["time", "records", "signed by", "fits", "file"], rows);
    }

    fn counts(&self, page: &mut Page) {
        page.heading("Counts");
        page.raw(
            "<p><svg class=key><rect class=o width=20 height=20 /></svg>ok<svg class=key><rect class=r width=20 height=20 /></svg>refused\
             <svg class=key><rect class=f width=20 height=20 /></svg>failed",
        );
        chart(page, &self.tally.times);
        let most = self.tally.events.values().map(|one| one.all()).max().unwrap_or(0);
        page.raw("<table><tr><th>event<th>ok<th>refused<th>failed<th>");
        for (event, one) in &self.tally.events {
            let Outcomes { ok, refused, failed } = one;
            let bar = across(*one, most);
            page.raw(&format!(
                "<tr><td>{}<td class=n>{ok}<td class=n>{refused}<td class=n>{failed}<td>{bar}",
                escaped(event)
            ));
        }
        page.raw("</table>");
    }

    fn refusals(&self, page: &mut Page) {
        page.heading("Refusals and failures");
        let tally = self.tally;
        let most = tally.most_refused();
        if most.is_empty() && tally.suppressed == 0 {
            page.paragraph("None.");
            return;
        }
        if most.len() > MAX_REFUSALS || tally.other_kinds > 0 {
            let kinds =
                if tally.other_kinds > 0 { format!("more than {}", most.len()) } else { most.len().to_string() };
            page.paragraph(&format!("The most frequent of {kinds} kinds:"));
        }
        let rows = most.iter().take(MAX_REFUSALS).map(|(kind, count)| {
            let uid = kind.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
            vec![count.to_string(), kind.event.clone(), kind.reason.clone(), uid]
        });
        page.table(&["records", "event", "reason", "uid"], rows);
        if tally.suppressed > 0 {
            page.paragraph(&format!("{} more were counted, and are not on record one by one.", tally.suppressed));
        }
    }
}

/// A list of records.
fn list(page: &mut Page, heading: &str, none: &str, list: &List) {
    page.heading(heading);
    if list.told.is_empty() {
        page.paragraph(none);
        return;
    }
    let rows = list.told.iter().map(|told| {
        let count = told.count.map(|count| format!("count {count}"));
        let what: Vec<_> = [told.kid.clone(), count, told.detail.clone()].into_iter().flatten().collect();
        let cells = [&told.time, &told.event, &told.outcome].map(String::clone);
        [told.seq.to_string()].into_iter().chain(cells).chain([what.join("; ")]).collect()
    });
    page.table(&["seq", "time", "event", "outcome", "what"], rows);
    let hidden = list.all.saturating_sub(u64::try_from(list.told.len()).unwrap_or(u64::MAX));
    if hidden > 0 {
        page.paragraph(&format!("{hidden} later ones are not shown."));
    }
}

/// What part of `length` so many of so many are.
fn part(count: u64, of: u64, length: u64) -> u64 {
    (u128::from(count) * u128::from(length)).checked_div(of.into()).and_then(|part| part.try_into().ok()).unwrap_or(0)
}

/// A bar beside a number.
fn across(one: Outcomes, most: u64) -> String {
    let mut bar = format!("<svg width={BAR} height=10 viewBox=\"0 0 {BAR} 10\">");
    let mut at = 0;
    for (class, count) in [("o", one.ok), ("r", one.refused), ("f", one.failed)] {
        let width = part(count, most, BAR);
        // What is there is seen.
        let width = if count > 0 { width.max(1) } else { 0 };
        bar.push_str(&format!("<rect class={class} x={at} width={width} height=10 />"));
        at += width;
    }
    bar + "</svg>"
}

/// The records over time. Hours and days without any have their place, too.
fn chart(page: &mut Page, times: &Times) {
    let bars = filled(times);
    let (Some(first), Some(last)) = (bars.keys().next(), bars.keys().next_back()) else { return };
    let most = bars.values().map(|bar| bar.all()).max().unwrap_or(0);
    let (width, height) = CHART;
    let step = (width / u64::try_from(bars.len()).unwrap_or(u64::MAX)).clamp(1, 40);
    let mut svg = format!(
        "<svg width={width} height={height} viewBox=\"0 0 {width} {height}\" role=img aria-label=\"records by {}\">",
        times.unit()
    );
    for (at, (time, bar)) in (0_u64..).zip(&bars) {
        let mut top = height;
        let said = format!("{time}: {} ok, {} refused, {} failed", bar.ok, bar.refused, bar.failed);
        svg.push_str(&format!("<g><title>{}</title>", escaped(&said)));
        for (class, count) in [("o", bar.ok), ("r", bar.refused), ("f", bar.failed)] {
            let tall = part(count, most, height);
            top = top.saturating_sub(tall);
            let wide = step.saturating_sub(u64::from(step > 2)).max(1);
            svg.push_str(&format!("<rect class={class} x={} y={top} width={wide} height={tall} />", at * step));
        }
        svg.push_str("</g>");
    }
    page.raw(&(svg + "</svg>"));
    page.paragraph(&format!("Records by the {}, {first} to {last}; the highest bar is {most}.", times.unit()));
}

/// With what is missing in between, as far as the chart has room.
fn filled(times: &Times) -> BTreeMap<String, Outcomes> {
    let mut bars = times.bars.clone();
    let (step, rest) = match times.unit() {
        "hour" => (3_600, ":00:00Z"),
        "day" => (86_400, "T00:00:00Z"),
        _ => return bars,
    };
    let at = |key: Option<&String>| {
        format!("{}{rest}", key?).parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
    };
    let (Some(first), Some(last)) = (at(times.bars.keys().next()), at(times.bars.keys().next_back())) else {
        return bars;
    };
    let mut second = first;
    while second < last && bars.len() < MAX_BARS {
        let text = jiff::Timestamp::from_second(second).map(|at| at.to_string()).unwrap_or_default();
        bars.entry(text.strip_suffix(rest).unwrap_or(&text).to_owned()).or_default();
        second += step;
    }
    bars
}
