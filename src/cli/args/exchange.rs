//! Options of the commands on tickets.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::service::{Dpop, form, retry_key};
use crate::passport::MAX_TICKET_TTL_S;
use crate::wire::PassportForm;

const EXCHANGE: &str = "\
A ticket is a passport of 60 s at most, for one audience, that is accepted once. The passport is accepted for it, and loses a use
if it has a limit. Reads one passport, as `passportctl verify` does, and prints the ticket as `passportctl issue` prints a
passport. Exits 3 if the passport is refused.

Examples:
  passportctl exchange --aud demo passport.json > ticket.json
  passportctl issue --template demo --sub alice | passportctl exchange | passportctl verify --aud demo
  passportctl exchange --scope read --ttl 10 passport.json
  passportctl exchange --pop-key holder.pem passport.json
  passportctl exchange --retry-key 4f1c90b6a6d24c0d9f1e55d0c1a7e2b3 passport.json";

/// `exchange`.
#[derive(Debug, Args)]
#[command(after_help = EXCHANGE)]
pub(crate) struct Exchange {
    /// For whom the ticket is [default: the only audience of the passport]
    #[arg(long)]
    pub(crate) aud: Option<String>,
    /// What it allows; may be given several times [default: all that the passport does]
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<String>,
    /// Lifetime in seconds [default: as long as a ticket may live]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u32>,
    /// In which form
    #[arg(long, value_name = "FORM", default_value = "envelope", value_parser = form())]
    pub(crate) form: PassportForm,
    /// The user who presented the passport, for those that are bound to one [default: your own]
    #[arg(long, value_name = "UID")]
    pub(crate) peer_uid: Option<u32>,
    /// 32 random hexadecimal digits: where a use was taken, the same request with the same ones takes no other for 120 s, and
    /// gets a ticket of the same id [default: new ones]
    #[arg(long, value_name = "HEX", value_parser = retry_key)]
    pub(crate) retry_key: Option<[u8; 16]>,
    /// The holder's Ed25519 key (PEM, mode 0600 or 0400), to prove that it is there
    #[arg(long, value_name = "FILE", conflicts_with = "dpop")]
    pub(crate) pop_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dpop: Dpop,
    /// The file with the passport
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

const TICKET_TTL: &str = "\
What is allowed ends by itself, with --end, or with the daemon; both ends are on record. The signer signs no ticket that lives
longer than 300 s.

Examples:
  passportctl ticket-ttl --seconds 120 --for 1h --reason 'slow link to site B'
  passportctl ticket-ttl --end --reason 'link is up'";

/// `ticket-ttl`.
#[derive(Debug, Args)]
#[command(after_help = TICKET_TTL, group(ArgGroup::new("what").required(true).args(["seconds", "end"])))]
pub(crate) struct TicketTtl {
    /// The longest lifetime of a ticket meanwhile
    #[arg(long, value_name = "SECONDS", requires = "period", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TICKET_TTL_S)))]
    pub(crate) seconds: Option<u32>,
    /// For how long, as 90s, 30m or 1h; 4h at most
    #[arg(long = "for", id = "period", value_name = "PERIOD", conflicts_with = "end", value_parser = period)]
    pub(crate) period: Option<u32>,
    /// Ends what is in force
    #[arg(long)]
    pub(crate) end: bool,
    /// Why, for the audit record
    #[arg(long)]
    pub(crate) reason: String,
}

/// The longest period, in seconds: four hours.
const MAX_PERIOD_S: u32 = 4 * 3600;

/// Seconds, minutes or hours.
fn period(text: &str) -> Result<u32, String> {
    let wrong = || "expected 1s to 4h, such as 90s, 30m or 1h".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse().ok().filter(|_| digits).and_then(|number: u32| number.checked_mul(unit));
    seconds.filter(|seconds| (1..=MAX_PERIOD_S).contains(seconds)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_seconds_minutes_or_hours_and_bounded() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("30m", 1800), ("1h", 3600), ("4h", 14_400), ("240m", 14_400)] {
            assert_eq!(period(text), Ok(seconds));
        }
        for bad in ["", "s", "0s", "5h", "241m", "14401s", "1d", "-1s", "+1s", "1.5h", "60", "99999999999s", "1µ"] {
            assert!(period(bad).is_err(), "{bad}");
        }
    }
}
