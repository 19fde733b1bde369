//! Pages that need nothing beside them: no script, no font, no picture of another file.

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#111;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #999}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.2em .6em;border-bottom:1px solid #ddd}th{white-space:nowrap;font-weight:600}\
code{font:13px/1.4 monospace;overflow-wrap:anywhere}.bad{color:#a00;font-weight:600}.good{color:#060}\
@media print{body{margin:0;max-width:none}}";

/// A page in the making. What others wrote is escaped.
pub(super) struct Page(String);

impl Page {
    pub(super) fn new(title: &str) -> Self {
        let mut page = Self(String::new());
        page.raw(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">",
        );
        page.raw(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        );
        page.raw(&format!("<title>{}</title><style>{STYLE}</style>", escaped(title)));
        page
    }

    /// HTML of our own.
    pub(super) fn raw(&mut self, html: &str) {
        self.0.push_str(html);
        self.0.push('\n');
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.raw(&format!("<h2>{}</h2>", escaped(text)));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.raw(&format!("<p>{}", escaped(text)));
    }

    /// Names and values.
    pub(super) fn rows(&mut self, rows: &[(&str, String)]) {
        self.raw("<table>");
        for (name, value) in rows {
            self.raw(&format!("<tr><th>{}<td><code>{}</code>", escaped(name), escaped(value)));
        }
        self.raw("</table>");
    }

    /// A table with a head; cells are text.
    pub(super) fn table(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        self.raw("<table>");
        let cells: String = head.iter().map(|name| format!("<th>{}", escaped(name))).collect();
        self.raw(&format!("<tr>{cells}"));
        for row in rows {
            let cells: String = row.iter().map(|cell| format!("<td>{}", escaped(cell))).collect();
            self.raw(&format!("<tr>{cells}"));
        }
        self.raw("</table>");
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('\n');
        self.0
    }
}

/// Text that is no HTML, and shows what would turn it round or hide it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    out
}
