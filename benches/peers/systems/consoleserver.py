"""consoleserver, from its package, as its README installs it."""

from system import System, account, run, ssh, write


class Consoleserver(System):
    name = "consoleserver"
    title = "consoleserver"
    packages = ("consoleserver",)
    units = ("console@", "console-auth-port@", "console-cli", "console-admin")
    first = 0
    encrypted = True

    def configure(self):
        account("alice", self._key())
        write("/etc/consoleserver/config.toml", self.fill("consoleserver.toml"), "_console-admin:")

    def _key(self):
        with open(f"{self.key(0)}.pub") as key:
            return key.read()

    def _services(self):
        return [f"console@{self.port(number)}.service" for number in range(len(self.devices))]

    def begin(self):
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "consoleserver.target")
        # udev would, for a real adapter.
        run("systemctl", "start", *self._services())

    def end(self):
        run("systemctl", "stop", "consoleserver.target", *self._services())

    def client(self, port):
        return ssh("alice", self.tcp(port), self.key(0))

    def log(self, port):
        return f"/var/log/consoleserver/{self.port(port)}/console.log"

    def logged(self, text):
        """Records `TIME < TEXT`, one per line of the device; `TIME <+TEXT` continues it; `#` is a note of the port."""
        said = []
        for record in text.splitlines():
            rest = record.partition(b" ")[2]
            mark, words = rest[:2], rest[2:]
            if mark == b"<+" and said:
                said[-1] += words
            elif mark in (b"< ", b"<+"):
                said.append(words)
        return b"".join(line + b"\r\n" for line in said)
