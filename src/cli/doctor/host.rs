//! The kernel, and systemd.

use super::Check;
use super::facts::Host;

/// The Landlock ABI that the sandbox asks for.
const LANDLOCK: i32 = 6;
/// The first systemd with `LoadCredential=`, by which the signer's unit gives it the PIN.
const CREDENTIALS: u32 = 247;
/// The first with `LoadCredentialEncrypted=`.
const ENCRYPTED: u32 = 250;

pub(super) fn judge(host: &Host) -> Vec<Check> {
    vec![landlock(host), peer_pidfd(host), systemd(host.systemd)]
}

fn landlock(host: &Host) -> Check {
    let Host { kernel, landlock, .. } = host;
    if *landlock <= 0 {
        let remedy =
            "boot with lsm=landlock,... (Linux 5.13 or later); until then users and modes alone keep roles apart";
        return Check::warn("landlock", format!("Linux {kernel} has no Landlock, or boots without it"), remedy);
    }
    let part = if *landlock < LANDLOCK {
        format!(": a part of what ABI {LANDLOCK} (Linux 6.12) offers")
    } else {
        String::new()
    };
    Check::ok("landlock", format!("Linux {kernel}, ABI {landlock}{part}"))
}

/// Only rules by cgroup ask for it; `policy check` says which.
fn peer_pidfd(host: &Host) -> Check {
    Check::ok(
        "pidfd",
        match host.peer_pidfd {
            true => "SO_PEERPIDFD is there",
            false => "this kernel has no SO_PEERPIDFD (Linux 6.5): rules by cgroup match nobody",
        },
    )
}

fn systemd(systemd: Option<Option<u32>>) -> Check {
    const NAME: &str = "systemd";
    match systemd {
        None => Check::ok(NAME, "it does not run this host: passportd run starts the roles"),
        Some(None) => Check::skipped(NAME, "systemctl --version can't be asked", ""),
        Some(Some(version)) if version < CREDENTIALS => {
            let remedy = "set hsm.pin_file to a file that only the signer's user can read";
            Check::warn(
                NAME,
                format!("systemd {version} has no LoadCredential=: the signer's unit can't give it the PIN"),
                remedy,
            )
        }
        Some(Some(version)) if version < ENCRYPTED => {
            Check::ok(NAME, format!("systemd {version}; no LoadCredentialEncrypted= (250)"))
        }
        Some(Some(version)) => Check::ok(NAME, format!("systemd {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn host(landlock: i32, peer_pidfd: bool) -> Host {
        Host { kernel: "6.1.0".to_owned(), landlock, peer_pidfd, systemd: None }
    }

    #[test]
    fn a_kernel_without_landlock_is_a_warning() {
        assert_eq!(landlock(&host(0, true)).status, Status::Warn);
        assert_eq!(landlock(&host(2, true)).detail, "Linux 6.1.0, ABI 2: a part of what ABI 6 (Linux 6.12) offers");
        assert_eq!(landlock(&host(6, true)).detail, "Linux 6.1.0, ABI 6");
        assert!(peer_pidfd(&host(6, false)).detail.contains("match nobody"));
    }

    #[test]
    fn an_old_systemd_can_t_hand_the_pin_over() {
        for (version, status) in [(246, Status::Warn), (247, Status::Ok), (249, Status::Ok), (252, Status::Ok)] {
            assert_eq!(systemd(Some(Some(version))).status, status, "{version}");
        }
        assert!(systemd(Some(Some(249))).detail.contains("LoadCredentialEncrypted"));
        assert_eq!(systemd(Some(None)).status, Status::Skipped);
        assert!(systemd(None).detail.contains("passportd run"));
    }
}
