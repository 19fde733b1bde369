//! The functions of PKCS#11 2.40, each around that of the module behind.
#![expect(non_snake_case, reason = "the names are the standard's")]

use crate::control::{Action, Rule};
use crate::faults::{around, session_limit};
use cryptoki_sys::*;
use libloading::{Library, Symbol};
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The module behind.
static REAL: OnceLock<Option<CK_FUNCTION_LIST>> = OnceLock::new();
/// What callers are given.
static OURS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
/// Sessions that are open.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// Loads the module behind; it is never unloaded.
fn load() -> Option<CK_FUNCTION_LIST> {
    let path = std::env::var_os(crate::WRAPS).unwrap_or_else(|| crate::DEFAULT_WRAPS.into());
    // SAFETY: what a PKCS#11 module does when it is loaded is the business of whoever names it.
    let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(path) }.ok()?));
    // SAFETY: the standard gives the symbol this type.
    let list: Symbol<'_, unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV> =
        unsafe { library.get(b"C_GetFunctionList\0") }.ok()?;
    let mut found: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
    // SAFETY: the pointer is valid for the call.
    let answer = unsafe { list(&raw mut found) };
    // SAFETY: after CKR_OK it points to the module's list, which lives as long as the module.
    if answer == CKR_OK { unsafe { found.as_ref() }.copied() } else { None }
}

fn real() -> Option<&'static CK_FUNCTION_LIST> {
    REAL.get_or_init(load).as_ref()
}

/// The way in.
///
/// # Safety
/// `list` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if real().is_none() {
        return CKR_GENERAL_ERROR;
    }
    // SAFETY: the caller's word.
    let Some(list) = (unsafe { list.as_mut() }) else { return CKR_ARGUMENTS_BAD };
    *list = std::ptr::from_ref(OURS.get_or_init(ours)).cast_mut();
    CKR_OK
}

/// Functions to which nothing happens but what may happen to any.
macro_rules! plain {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name($($arg: $kind),*) -> CK_RV {
            let Some(call) = real().and_then(|list| list.$name) else { return CKR_FUNCTION_NOT_SUPPORTED };
            // SAFETY: the caller's arguments, to the function that they are for.
            around(stringify!($name), || unsafe { call($($arg),*) }, |_, _| {})
        }
    )*};
}

/// The list, and its names.
macro_rules! listed {
    ($($name:ident)*) => {
        fn ours() -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST { version: CK_VERSION { major: 2, minor: 40 }, $($name: Some($name)),* }
        }

        /// Every function.
        pub(crate) const FUNCTIONS: &[&str] = &[$(stringify!($name)),*];
    };
}

listed! {
    C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo C_GetTokenInfo C_GetMechanismList
    C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo
    C_GetOperationState C_SetOperationState C_Login C_Logout C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize
    C_GetAttributeValue C_SetAttributeValue C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt
    C_EncryptUpdate C_EncryptFinal C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit C_Digest
    C_DigestUpdate C_DigestKey C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit C_SignRecover
    C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate
    C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey C_UnwrapKey
    C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction C_WaitForSlotEvent
}

plain! {
    C_Initialize(a: *mut c_void);
    C_GetInfo(a: *mut CK_INFO);
    C_GetSlotList(a: CK_BBOOL, b: *mut CK_SLOT_ID, c: *mut CK_ULONG);
    C_GetSlotInfo(a: CK_SLOT_ID, b: *mut CK_SLOT_INFO);
    C_GetMechanismList(a: CK_SLOT_ID, b: *mut CK_MECHANISM_TYPE, c: *mut CK_ULONG);
    C_GetMechanismInfo(a: CK_SLOT_ID, b: CK_MECHANISM_TYPE, c: *mut CK_MECHANISM_INFO);
    C_InitToken(a: CK_SLOT_ID, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR);
    C_InitPIN(a: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG);
    C_SetPIN(a: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR, e: CK_ULONG);
    C_GetOperationState(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SetOperationState(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: CK_OBJECT_HANDLE, e: CK_OBJECT_HANDLE);
    C_Login(a: CK_SESSION_HANDLE, b: CK_USER_TYPE, c: *mut CK_UTF8CHAR, d: CK_ULONG);
    C_Logout(a: CK_SESSION_HANDLE);
    C_CreateObject(a: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_OBJECT_HANDLE);
    C_CopyObject(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    C_DestroyObject(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    C_GetObjectSize(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ULONG);
    C_SetAttributeValue(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG);
    C_FindObjectsInit(a: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    C_FindObjects(a: CK_SESSION_HANDLE, b: *mut CK_OBJECT_HANDLE, c: CK_ULONG, d: *mut CK_ULONG);
    C_FindObjectsFinal(a: CK_SESSION_HANDLE);
    C_EncryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_Encrypt(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_EncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_EncryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_DecryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_Decrypt(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_DigestInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM);
    C_Digest(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DigestUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_DigestKey(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    C_DigestFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SignInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_SignUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_SignFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SignRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_SignRecover(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_VerifyInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_Verify(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: CK_ULONG);
    C_VerifyUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_VerifyFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_VerifyRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_VerifyRecover(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DigestEncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptDigestUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_SignEncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptVerifyUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_GenerateKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    C_GenerateKeyPair(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG,
        e: *mut CK_ATTRIBUTE, f: CK_ULONG, g: *mut CK_OBJECT_HANDLE, h: *mut CK_OBJECT_HANDLE);
    C_WrapKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: CK_OBJECT_HANDLE, e: *mut CK_BYTE,
        f: *mut CK_ULONG);
    C_UnwrapKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_BYTE, e: CK_ULONG,
        f: *mut CK_ATTRIBUTE, g: CK_ULONG, h: *mut CK_OBJECT_HANDLE);
    C_DeriveKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_ATTRIBUTE, e: CK_ULONG,
        f: *mut CK_OBJECT_HANDLE);
    C_SeedRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_GenerateRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_GetFunctionStatus(a: CK_SESSION_HANDLE);
    C_CancelFunction(a: CK_SESSION_HANDLE);
    C_WaitForSlotEvent(a: CK_FLAGS, b: *mut CK_SLOT_ID, c: *mut c_void);
}

unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_Finalize) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let end = || {
        // SAFETY: the caller's argument.
        let answer = unsafe { call(reserved) };
        if answer == CKR_OK {
            OPEN.store(0, Ordering::SeqCst);
        }
        answer
    };
    around("C_Finalize", end, |_, _| {})
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_GetTokenInfo) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let get = || {
        // SAFETY: the caller's arguments.
        let answer = unsafe { call(slot, info) };
        // SAFETY: if the call has succeeded, it is one token's information.
        let info = if answer == CKR_OK { unsafe { info.as_mut() } } else { None };
        if let (Some(info), Some(limit)) = (info, session_limit()) {
            info.ulMaxSessionCount = limit;
            info.ulMaxRwSessionCount = limit;
        }
        answer
    };
    let finish = |rule: &Rule, answer| {
        // SAFETY: as above.
        let Some(info) = (if answer == CKR_OK { unsafe { info.as_mut() } } else { None }) else { return };
        for action in &rule.actions {
            if let Action::Flags(flags) = action {
                info.flags |= flags;
            }
        }
    };
    around("C_GetTokenInfo", get, finish)
}

unsafe extern "C" fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_GetSessionInfo) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let finish = |rule: &Rule, answer| {
        // SAFETY: if the call has succeeded, it is one session's information.
        let Some(info) = (if answer == CKR_OK { unsafe { info.as_mut() } } else { None }) else { return };
        for action in &rule.actions {
            if let Action::State(state) = action {
                info.state = *state;
            }
        }
    };
    // SAFETY: the caller's arguments.
    around("C_GetSessionInfo", || unsafe { call(session, info) }, finish)
}

unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_OpenSession) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let open = || {
        let limit = session_limit().unwrap_or(u64::MAX);
        let place = |open: u64| (open < limit).then_some(open + 1);
        if OPEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, place).is_err() {
            return CKR_SESSION_COUNT;
        }
        // SAFETY: the caller's arguments.
        let answer = unsafe { call(slot, flags, application, notify, session) };
        if answer != CKR_OK {
            closed();
        }
        answer
    };
    around("C_OpenSession", open, |_, _| {})
}

unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_CloseSession) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let close = || {
        // SAFETY: the caller's argument.
        let answer = unsafe { call(session) };
        if answer == CKR_OK {
            closed();
        }
        answer
    };
    around("C_CloseSession", close, |_, _| {})
}

unsafe extern "C" fn C_CloseAllSessions(slot: CK_SLOT_ID) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_CloseAllSessions) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let close = || {
        // SAFETY: the caller's argument.
        let answer = unsafe { call(slot) };
        if answer == CKR_OK {
            // Tests have one token.
            OPEN.store(0, Ordering::SeqCst);
        }
        answer
    };
    around("C_CloseAllSessions", close, |_, _| {})
}

fn closed() {
    // A session that was opened before C_Finalize may be closed after it: then nothing is counted.
    let _ended_before = OPEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| open.checked_sub(1));
}

unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_Sign) else { return CKR_FUNCTION_NOT_SUPPORTED };
    // SAFETY: the caller's arguments.
    let sign = || unsafe { call(session, data, data_len, signature, signature_len) };
    if signature.is_null() {
        return sign();
    }
    let finish = |rule: &Rule, answer| {
        if answer != CKR_OK {
            return;
        }
        // SAFETY: the call has succeeded, so it is set.
        let len = usize::try_from(unsafe { signature_len.read() }).unwrap_or(0);
        // SAFETY: so many bytes were written there.
        let made = unsafe { std::slice::from_raw_parts_mut(signature, len) };
        for action in &rule.actions {
            if let Action::Flip(bit) = action
                && let Some(byte) = made.get_mut(bit / 8)
            {
                *byte ^= 1 << (bit % 8);
            }
        }
    };
    around("C_Sign", sign, finish)
}

unsafe extern "C" fn C_GetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let Some(call) = real().and_then(|list| list.C_GetAttributeValue) else { return CKR_FUNCTION_NOT_SUPPORTED };
    // SAFETY: the caller's arguments.
    let get = || unsafe { call(session, object, template, count) };
    let finish = |rule: &Rule, answer| {
        // What the object has not, or does not show, spoils the answer and not the other attributes (PKCS#11 2.40 §5.7).
        let answered =
            matches!(answer, CKR_OK | CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL);
        if !answered {
            return;
        }
        if rule.label.as_deref().is_some_and(|label| !is_labelled(session, object, label)) {
            return;
        }
        // SAFETY: the caller's template, which the call has filled.
        let asked = unsafe { std::slice::from_raw_parts_mut(template, usize::try_from(count).unwrap_or(0)) };
        rule.actions.iter().for_each(|action| lie(action, asked));
    };
    around("C_GetAttributeValue", get, finish)
}

fn is_labelled(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, label: &str) -> bool {
    let Some(call) = real().and_then(|list| list.C_GetAttributeValue) else { return false };
    let mut found = [0_u8; 256];
    let mut asked = CK_ATTRIBUTE { type_: CKA_LABEL, pValue: found.as_mut_ptr().cast(), ulValueLen: 256 };
    // SAFETY: one attribute, whose buffer is as long as it says.
    let answer = unsafe { call(session, object, &raw mut asked, 1) };
    let len = usize::try_from(asked.ulValueLen).unwrap_or(usize::MAX);
    answer == CKR_OK && found.get(..len) == Some(label.as_bytes())
}

fn lie(action: &Action, asked: &mut [CK_ATTRIBUTE]) {
    let Action::Lie(kind, end) = action else { return };
    // A null pointer asks for the length alone; what the object has not is said by the length -1.
    let there =
        |one: &&mut CK_ATTRIBUTE| one.type_ == *kind && !one.pValue.is_null() && one.ulValueLen != CK_ULONG::MAX;
    for one in asked.iter_mut().filter(there) {
        let len = usize::try_from(one.ulValueLen).unwrap_or(0);
        // SAFETY: the call has written so many bytes there.
        let value = unsafe { std::slice::from_raw_parts_mut(one.pValue.cast::<u8>(), len) };
        if let Some(start) = len.checked_sub(end.len())
            && let Some(last) = value.get_mut(start..)
        {
            last.copy_from_slice(end);
        }
    }
}
