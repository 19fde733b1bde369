//! The module's own rate, without queue, guard, verification or socket: what `passportctl bench` measures ours against.

use super::module::Module;
use super::{HsmError, ModuleConfig};
use crate::secret::Pin;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As large as a usual payload.
const MESSAGE: [u8; 320] = [b'x'; 320];

/// Where the key is that signs. A module that reads a stored one for each signature is slower with it: kryoptic by a third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawKey {
    /// In the session: nothing is written to the token.
    Session,
    /// In the token's store, as the signer's keys are. It is destroyed afterwards.
    Token,
}

/// Raw `C_SignInit` + `C_Sign` a second over `sessions` sessions, a thread each, with a key that is gone afterwards.
/// Initialises and finalises the module, so not for the serving process.
///
/// # Errors
/// [`HsmError`] of whatever fails.
pub fn raw_sign_rate(
    config: &ModuleConfig,
    pin: &Pin,
    sessions: usize,
    time: Duration,
    key: RawKey,
) -> Result<f64, HsmError> {
    let module = Module::load(&config.module)?;
    module.initialise()?;
    let rate = measure(config, &module, pin, (sessions, time), key);
    module.finalise()?;
    rate
}

fn measure(
    config: &ModuleConfig,
    module: &Module,
    pin: &Pin,
    (sessions, time): (usize, Duration),
    key: RawKey,
) -> Result<f64, HsmError> {
    let token = module.token(&config.token)?;
    let keeper = module.read_only_session(&token)?;
    module.login(&token, &keeper, pin)?;
    let stored = match key {
        RawKey::Session => None,
        RawKey::Token => {
            let maker = module.read_write_session(&token)?;
            let pair = pair(&maker, true)?;
            Some((maker, pair))
        }
    };
    let shared = stored.as_ref().map(|(_, (_, private))| *private);
    let opened: Vec<Session> =
        (0..sessions).map(|_| module.read_only_session(&token)).collect::<Result<_, HsmError>>()?;
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let counts: Vec<Result<u32, HsmError>> = std::thread::scope(|scope| {
        let running: Vec<_> = opened.into_iter().map(|session| scope.spawn(|| count(session, shared, &stop))).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let lost = |_| Err(HsmError::Lost("a thread of the measurement panicked".to_owned()));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
    });
    let elapsed = begun.elapsed().as_secs_f64();
    if let Some((maker, (public, private))) = stored {
        for object in [public, private] {
            maker.destroy_object(object).map_err(|error| HsmError::call("measure", &error))?;
        }
    }
    let mut total = 0.0;
    for counted in counts {
        total += f64::from(counted?);
    }
    Ok(total / elapsed)
}

/// Session objects live and die with their session and are writable in a read-only one.
fn pair(session: &Session, stored: bool) -> Result<(ObjectHandle, ObjectHandle), HsmError> {
    let public =
        [Attribute::Token(stored), Attribute::EcParams(super::ec::CURVE_NAME.to_vec()), Attribute::Verify(true)];
    let private =
        [Attribute::Token(stored), Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)];
    let made = session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
    made.map_err(|error| HsmError::call("measure", &error))
}

#[expect(clippy::needless_pass_by_value, reason = "a session belongs to one thread and must be closed by it")]
fn count(session: Session, shared: Option<ObjectHandle>, stop: &AtomicBool) -> Result<u32, HsmError> {
    let fails = |error: cryptoki::error::Error| HsmError::call("measure", &error);
    let key = match shared {
        Some(key) => key,
        None => pair(&session, false)?.1,
    };
    let ed25519 = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
    let mut signed = 0;
    while !stop.load(Ordering::Relaxed) {
        session.sign(&ed25519, key, &MESSAGE).map_err(fails)?;
        signed += 1;
    }
    Ok(signed)
}
