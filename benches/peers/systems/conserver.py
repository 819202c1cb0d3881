"""conserver, without encryption as it is mostly run in a closed network, and with TLS."""

import os

from system import HERE, OneService, run, write


class Conserver(OneService):
    name = "conserver"
    title = "conserver, no encryption"
    packages = ("conserver-server", "conserver-client")
    unit = "conserver-server.service"
    units = (unit,)
    first = 100
    file = "conserver.cf"
    tcp_port = 3109
    console = ["console", "-n", "-E"]
    options = f"OPTS='-p {tcp_port} -M 127.0.0.1 -m 16'\n"

    def configure(self):
        self.end()
        write(f"/etc/conserver/{self.file}", self.fill(self.file))
        write("/etc/conserver/server.conf", self.options)

    def listener(self):
        return self.tcp_port

    def client(self, port):
        return [*self.console, "-M", "127.0.0.1", "-p", str(self.tcp_port), "-f", self.port(port)]

    def watcher(self, port):
        return [*self.console, "-M", "127.0.0.1", "-p", str(self.tcp_port), "-s", self.port(port)]

    def log(self, port):
        return f"/var/log/conserver/{self.port(port)}.log"

    def revive(self):
        """Its first process starts the others again."""


class ConserverTls(Conserver):
    name = "conserver-tls"
    title = "conserver, TLS"
    packages = ("conserver-server", "conserver-client")
    unit = "conserver-tls.service"
    units = (unit,)
    first = 200
    file = "conserver-tls.cf"
    tcp_port = 3110
    console = ["console", "-n", "-C", "/etc/conserver/client.cf"]
    encrypted = True

    def configure(self):
        if not os.path.exists("/etc/conserver/tls.pem"):
            run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", "/etc/conserver/key.pem", "-out", "/etc/conserver/cert.pem")  # fmt: skip
            with open("/etc/conserver/key.pem") as key, open("/etc/conserver/cert.pem") as certificate:
                write("/etc/conserver/tls.pem", key.read() + certificate.read(), "conservr:", 0o600)
        write(f"/etc/conserver/{self.file}", self.fill(self.file))
        for file, place in ((self.unit, f"/etc/systemd/system/{self.unit}"), ("conserver-client.cf", "/etc/conserver/client.cf")):
            with open(os.path.join(HERE, file)) as text:
                write(place, text.read())
        run("systemctl", "daemon-reload")
