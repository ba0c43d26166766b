//! Which Host and Origin headers are let through.
//!
//! A web page can make its visitor's browser send requests to this machine. A page of another origin is told by its
//! Origin header; one whose name was pointed at this machine after it was loaded (DNS rebinding) by its Host header.

use axum::http::HeaderValue;

/// Names this server goes by, and pages that may use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    /// Beside the loopback's own.
    pub(crate) names: Vec<String>,
    /// Origins of pages, such as `http://localhost:3000`.
    pub(crate) origins: Vec<String>,
    /// Whether the server is meant to be reached from elsewhere: any address will do then, because what a browser was
    /// told to send to an address it does send there. A name may have been pointed here by somebody else.
    pub(crate) beyond: bool,
    /// Whether any name will do, too: a page that was pointed here has no key.
    pub(crate) any: bool,
}

impl Hosts {
    pub(crate) fn allows_host(&self, host: &str) -> bool {
        self.any
            || is_loopback(without_port(host))
            || self.beyond && without_port(host).parse::<std::net::IpAddr>().is_ok()
            || self.names.iter().any(|name| same(name, without_port(host)))
    }

    pub(crate) fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|allowed| same(allowed.trim_end_matches('/'), origin))
    }
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// A name without the port behind it; addresses of version 6 stand in brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    same(name.trim_end_matches('.'), "localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_let_through() {
        let hosts = Hosts { names: vec!["box.home".into()], ..Hosts::default() };
        for ours in [
            "localhost",
            "LOCALHOST:11435",
            "127.0.0.1:80",
            "[::1]:80",
            "127.0.0.2",
            "box.home:1",
            "localhost.",
        ] {
            assert!(hosts.allows_host(ours), "{ours}");
        }
        for other in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:1"]
        {
            assert!(!hosts.allows_host(other), "{other}");
        }
    }

    #[test]
    fn an_open_server_without_keys_is_called_by_addresses_or_by_names_it_was_told() {
        let hosts = Hosts { names: vec!["box.home".into()], beyond: true, ..Hosts::default() };
        for ours in ["10.0.0.1:11435", "[fe80::1]:80", "box.home", "localhost"] {
            assert!(hosts.allows_host(ours), "{ours}");
        }
        for other in ["", "evil.example", "10.0.0.1.evil.example:80"] {
            assert!(!hosts.allows_host(other), "{other}");
        }
    }

    #[test]
    fn only_named_origins_are_let_through() {
        let hosts = Hosts { origins: vec!["http://localhost:3000/".into()], ..Hosts::default() };
        let allows = |origin: &str| hosts.allows_origin(&HeaderValue::from_str(origin).unwrap());
        assert!(allows("http://localhost:3000"));
        for other in [
            "http://localhost:3001",
            "https://localhost:3000",
            "null",
            "http://evil.example",
            "http://localhost",
        ] {
            assert!(!allows(other), "{other}");
        }
    }
}
