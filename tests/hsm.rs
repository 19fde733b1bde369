//! The signer and the ceremonies against a real module, each in a process of its own, over their sockets.
//!
//! The processes are this test binary, started again for the test `role` with `ROLE` in the environment.
#![cfg(feature = "daemon")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test, and its helpers outside of #[test]"
)]

#[path = "hsm/adopt.rs"]
mod adopt;
#[path = "hsm/bounds.rs"]
mod bounds;
#[path = "hsm/ceremonies.rs"]
mod ceremonies;
#[path = "support/fault_module.rs"]
mod fault;
#[path = "hsm/front.rs"]
mod front;
#[path = "hsm/harness.rs"]
mod harness;
#[path = "hsm/leaving.rs"]
mod leaving;
#[path = "hsm/pins.rs"]
mod pins;
#[path = "hsm/planned.rs"]
mod planned;
#[path = "hsm/rates.rs"]
mod rates;
#[path = "hsm/resumed.rs"]
mod resumed;
#[path = "hsm/roles.rs"]
mod roles;
#[path = "hsm/sealing.rs"]
mod sealing;
#[path = "hsm/signer.rs"]
mod signer;
#[expect(dead_code, reason = "shared by several tests")]
#[path = "support/softhsm.rs"]
mod softhsm;
#[path = "hsm/statements.rs"]
mod statements;

use harness::{
    Link, block_termination, done, failed, hold, initialised, payload, public, signature, signer, start, start_as, uid,
};

use passportd::ceremony::{CeremonyPlan, run_ceremony};
use passportd::clock::Moment;
use passportd::hsm::bench::{RawKey, raw_sign_rate};
use passportd::hsm::{Bounds, Manager, ModuleConfig, SignerPlan, TenantBounds, TokenChoice, leave, run_signer};
use passportd::passport::{Cap, Claims};
use passportd::seal::XChaCha;
use passportd::secret::Pin;
use passportd::verify::Way;
use passportd::wire::Plain;
use passportd::wire::ceremony::{Finding, KeyReport, PlanKind, Report, Request, Response, call};
use passportd::wire::frame::{Split, split};
use passportd::wire::link::{
    LinkGreeting, LinkHello, LinkKey, LinkOp, LinkRefusal, LinkReply, LinkRequest, LinkResult, LinkStats, LinkWelcome,
    PROBE_PREFIX,
};
use passportd::wire::sealed::{MAX_PLAIN, NONCE, NamespacePattern, Sealed};
use passportd::wire::{WIRE_VERSION, decode, encode_frame};
use softhsm::token::{CHOICE, Hsm, Token};
use softhsm::{LABEL, PIN};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strict25519::PreparedKey;

const ISSUER: &str = "https://issuer.test";
const V1: &str = "ed25519/t1/auth/v1";
const V2: &str = "ed25519/t1/auth/v2";
const AUDIT: &str = "ed25519/t1/audit/v1";
const SEAL: &str = "hmac-sha256/t1/seal/v1";

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn role() {
    if let Some(role) = roles::var("ROLE") {
        roles::run_role(&role);
    }
}
