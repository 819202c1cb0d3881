"""ser2net, raw TCP. It opens a port when a client connects, so nothing is logged before that."""

from system import OneService, run, write


class Ser2net(OneService):
    name = "ser2net"
    title = "ser2net, no encryption"
    packages = ("ser2net", "socat")
    units = ("ser2net.service",)
    first = 400
    logs_alone = False

    def configure(self):
        self.end()
        run("mkdir", "-p", "/var/log/ser2net")
        write("/etc/ser2net.yaml", self.fill("ser2net.yaml"))

    def client(self, port):
        return ["socat", "STDIN,rawer!!STDOUT", f"TCP:127.0.0.1:{self.tcp(port)},nodelay"]

    def log(self, port):
        return f"/var/log/ser2net/{self.port(port)}.log"

    def revive(self):
        self.restart()
