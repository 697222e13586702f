//! Users and their passwords, and browsers in which they log in.

use argon2::password_hash::PasswordHasher;
use argon2::{Argon2, Params};
use base64ct::{Base64, Encoding};
use serde_json::json;

use crate::browser::{Answer, ask};
use crate::processes::Gateway;

/// A line of the file, with a password that costs next to nothing.
pub(crate) fn user(name: &str, role: &str, password: &str) -> String {
    let argon = Argon2::from(Params::new(64, 1, 1, None).unwrap());
    let hash = argon.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap();
    format!("{name}:{role}:{hash}\n")
}

/// What a program says with each request.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{name}:{password}").as_bytes()))
}

pub(crate) fn log_in(gateway: &Gateway, name: &str, password: &str, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"user": name, "password": password}).to_string();
    ask(gateway, "POST", "/api/v1/login", headers, &body)
}

/// A browser in which somebody has logged in.
pub(crate) struct Browser<'a> {
    gateway: &'a Gateway,
    pub(crate) cookie: String,
    pub(crate) token: String,
}

impl<'a> Browser<'a> {
    pub(crate) fn of(gateway: &'a Gateway, name: &str, password: &str) -> Self {
        let answer = log_in(gateway, name, password, &[]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let mut browser = Self { gateway, cookie, token: String::new() };
        let me = browser.get("/api/v1/me").json();
        assert_eq!(me["user"], name);
        browser.token = me["csrf"].as_str().unwrap().to_owned();
        browser
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(self.gateway, "GET", path, &[("cookie", &self.cookie)], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        let headers = [("cookie", self.cookie.as_str()), ("x-csrf-token", &self.token)];
        ask(self.gateway, "POST", path, &headers, body)
    }
}
