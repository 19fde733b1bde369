//! The tests' side: processes, ceremonies, the link.

use super::*;

pub(crate) struct Process {
    pub(crate) child: Child,
    out: BufReader<std::process::ChildStdout>,
    pub(crate) socket: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn start(hsm: &Token, role: &str, vars: &[(&str, &str)]) -> Process {
    start_as(hsm, role, vars, None)
}

/// The mask is inherited. A real signer blocks the signals before it starts a thread; here the test harness has threads
/// already, which would take them.
pub(crate) fn block_termination() {
    let mut mask = nix::sys::signal::SigSet::empty();
    mask.add(nix::sys::signal::Signal::SIGTERM);
    mask.thread_block().unwrap();
}

pub(crate) fn start_as(hsm: &Token, role: &str, vars: &[(&str, &str)], user: Option<(u32, u32)>) -> Process {
    let name = format!("{role}-{}.sock", uuid::Uuid::now_v7());
    let socket = hsm.dir().join(name);
    let own = std::env::current_exe().unwrap();
    let program = match user {
        None => own,
        // This program may lie in root's home, where another user can't start it.
        Some(_) => {
            let copy = hsm.dir().join("role");
            std::fs::copy(own, &copy).unwrap();
            copy
        }
    };
    let mut command = Command::new(program);
    command
        .args(["--exact", "role", "--ignored", "--nocapture", "--test-threads=1"])
        .env("ROLE", role)
        .env(CHOICE, hsm.hsm().name())
        .env("HSM_MODULE", hsm.hsm().module())
        .env("HSM_DIR", hsm.dir())
        .env("PIN_FILE", hsm.pin_file())
        .env("SOCKET", &socket)
        .env("ALLOWED", uid().to_string())
        .envs(vars.iter().copied())
        .stdout(Stdio::piped());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let mut child = hsm.apply(&mut command).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Process { child, out, socket }
}

pub(crate) fn uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

impl Process {
    /// The next line that the role said.
    pub(crate) fn heard(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.trim().strip_prefix('@') {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    pub(crate) fn ready(mut self) -> Self {
        assert_eq!(self.heard().as_deref(), Some("ready"));
        self
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

pub(crate) fn signer(hsm: &Token) -> Process {
    start(hsm, "signer", &[]).ready()
}

pub(crate) fn hold(hsm: &Token, vars: &[(&str, &str)], plan: PlanKind, purpose: &str, pin: Option<&str>) -> Response {
    let process = start(hsm, "ceremony", vars).ready();
    let stream = UnixStream::connect(&process.socket).unwrap();
    let request =
        Request { plan, tenant: Some("t1".to_owned()), purpose: Some(purpose.to_owned()), ..Request::default() };
    call(stream, &request, pin.unwrap_or_default().as_bytes()).unwrap()
}

pub(crate) fn done(hsm: &Token, plan: PlanKind, purpose: &str) -> Report {
    match hold(hsm, &[], plan, purpose, Some(PIN)) {
        Response::Done(report) => report,
        Response::Failed { code, message } => panic!("{code}: {message}"),
    }
}

pub(crate) fn failed(response: Response) -> (String, String) {
    match response {
        Response::Failed { code, message } => (code, message),
        Response::Done(report) => panic!("{report:?}"),
    }
}

/// A token with the three keys of tenant `t1`.
pub(crate) fn initialised() -> Option<Token> {
    initialised_with(Hsm::chosen())
}

/// The same, of this module whatever the environment says.
pub(crate) fn initialised_with(hsm: Hsm) -> Option<Token> {
    let hsm = Token::new(hsm)?;
    let report = done(&hsm, PlanKind::Init, "auth");
    assert_eq!(report.keys.iter().filter(|key| key.made_now && key.usable).count(), 3, "{report:?}");
    Some(hsm)
}

pub(crate) struct Link {
    pub(crate) socket: UnixStream,
    buffer: Vec<u8>,
    next: u64,
}

impl Link {
    pub(crate) fn raw(process: &Process) -> Self {
        let socket = UnixStream::connect(&process.socket).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, buffer: Vec::new(), next: 1 }
    }

    pub(crate) fn open(process: &Process) -> (Self, LinkWelcome) {
        let mut link = Self::raw(process);
        match link.hello(WIRE_VERSION, ISSUER) {
            LinkGreeting::Welcome(welcome) => (link, welcome),
            LinkGreeting::Refused(text) => panic!("{text}"),
        }
    }

    pub(crate) fn hello(&mut self, wire: u8, issuer: &str) -> LinkGreeting {
        let mut bytes = Vec::new();
        encode_frame(&LinkHello { wire, issuer }, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
        decode(&self.frame().expect("a greeting")).unwrap()
    }

    /// The next body; `None` when the signer has closed.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Split::Frame { body, used } = split(&self.buffer).unwrap() {
                let body = body.to_vec();
                self.buffer.drain(..used);
                return Some(body);
            }
            let mut more = [0; 4096];
            match self.socket.read(&mut more) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&more[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn send(&mut self, op: LinkOp<'_>) -> u64 {
        let id = self.next;
        self.next += 1;
        let mut bytes = Vec::new();
        encode_frame(&LinkRequest { id, op }, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
        id
    }

    pub(crate) fn reply(&mut self) -> Option<LinkReply> {
        self.frame().map(|body| decode(&body).unwrap())
    }

    pub(crate) fn ask(&mut self, op: LinkOp<'_>) -> LinkResult {
        let id = self.send(op);
        let reply = self.reply().expect("a reply");
        assert_eq!(reply.id, id);
        reply.result
    }

    pub(crate) fn sign(&mut self, payload: &[u8]) -> LinkResult {
        self.ask(LinkOp::Sign { payload })
    }

    pub(crate) fn keys(&mut self) -> Vec<LinkKey> {
        match self.ask(LinkOp::Keys) {
            LinkResult::Keys(keys) => keys,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stats(&mut self) -> LinkStats {
        match self.ask(LinkOp::Stats) {
            LinkResult::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn public(keys: &[LinkKey], kid: &str) -> PreparedKey {
    PreparedKey::new(&keys.iter().find(|key| key.kid == kid && key.usable).unwrap().public).unwrap()
}

pub(crate) fn payload(kid: &str, change: impl FnOnce(&mut Claims)) -> Vec<u8> {
    let now = Moment::now().unix();
    let mut claims = Claims {
        iss: ISSUER.to_owned(),
        sub: "alice".to_owned(),
        aud: vec!["api".to_owned()],
        iat: now,
        exp: now + 600,
        nbf: None,
        jti: uuid::Uuid::now_v7().to_string(),
        scopes: vec!["read".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid.parse().unwrap(),
        epoch: 0,
        cap: Cap { template: "demo".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    };
    change(&mut claims);
    claims.canonical(4096).unwrap()
}

pub(crate) fn signature(result: LinkResult) -> [u8; 64] {
    match result {
        LinkResult::Signed { sig } => sig,
        other => panic!("{other:?}"),
    }
}
