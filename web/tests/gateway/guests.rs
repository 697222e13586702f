//! Consoles that are streams of a guest with an agent (operator.md §11): `web01/shell`, of its VM's UUID.

use serde_json::json;

use crate::authority::Folder;
use crate::browser::{Answer, Socket, ask};
use crate::people::{Browser, user};
use crate::processes::{Agent, Gateway, PATIENCE, Server};

#[test]
fn a_shell_of_a_guest_is_a_console_of_its_own_by_every_path_and_link() {
    let folder = Folder::new();
    let line = folder.path("agent.sock");
    let server = Server::start("guest", &["--line", &format!("web01=unix:{line}?listen&mux=s2")]);
    let _agent = Agent::start(&folder.write(
        "agent.toml",
        &format!("line = \"unix:{line}\"\n[shell]\ncommand = [\"/bin/cat\"]\nannounce = [\"shell\"]\n"),
    ));
    let users = folder.write("users", &user("wim", "write", "w"));
    let gateway = Gateway::with_users(&server, &users, &["--state-dir", &folder.path("state")]);
    let wim = Browser::of(&gateway, "wim", "w");
    let deadline = std::time::Instant::now() + PATIENCE;
    while wim.get("/api/v1/consoles/web01%2Fshell").status != 200 {
        assert!(std::time::Instant::now() < deadline, "no shell was announced");
    }
    let shell = wim.get("/api/v1/consoles/web01%2Fshell").json();
    let uuid = shell["uuid"].as_str().unwrap();
    for (name, is) in [
        (uuid.to_owned(), "web01"),
        (format!("{uuid}%2Fshell"), "web01/shell"),
        (format!("lab%2F{}%2Fshell", uuid.to_uppercase()), "web01/shell"),
        ("lab%2Fweb01%2Fshell".to_owned(), "web01/shell"),
    ] {
        assert_eq!(wim.get(&format!("/api/v1/consoles/{name}")).json()["name"], is, "{name}");
    }
    let share = |name: &str| {
        let body = json!({"rights": "writer", "expires_in_s": 600}).to_string();
        let share = wim.post(&format!("/api/v1/consoles/{name}/shares"), &body).json();
        share["url"].as_str().unwrap().strip_prefix("s/#/share/").unwrap().to_owned()
    };
    let (of_shell, of_vm) = (share("web01%2Fshell"), share("web01"));
    let open = |word: &str, name: &str| {
        let path = format!("/s/api/v1/consoles/{name}/socket?server=lab");
        Socket::try_open(&gateway, &path, &format!("vspc.v1, share.{word}"), &[]).unwrap()
    };
    // As its page asks, by the UUID: the one that it is of.
    let mut guest = open(&of_shell, uuid);
    assert_eq!(guest.notice("attached")["console"]["name"], "web01/shell");
    guest.send(2, b"by a link\r");
    guest.expect(b"by a link\r\nby a link\r\n");
    assert_eq!(open(&of_vm, uuid).notice("attached")["console"]["name"], "web01");
    for (word, other) in [(&of_shell, "web01"), (&of_vm, "web01%2Fshell")] {
        assert_eq!(open(word, other).notice("error")["code"], "no-such-console", "{other}");
        let bearer = format!("Bearer {word}");
        let list: Answer = ask(&gateway, "GET", "/api/v1/consoles", &[("authorization", &bearer)], "");
        assert_eq!(list.json()["consoles"].as_array().unwrap().len(), 1);
    }
}
