"""ser2net, raw TCP. It opens a port when somebody comes, so that nothing is logged before."""

from system import System, run, write


class Ser2net(System):
    name = "ser2net"
    title = "ser2net, no encryption"
    packages = ("ser2net", "socat")
    units = ("ser2net.service",)
    first = 400
    logs_alone = False

    def configure(self):
        run("systemctl", "stop", "ser2net.service")
        run("mkdir", "-p", "/var/log/ser2net")
        write("/etc/ser2net.yaml", self.fill("ser2net.yaml"))

    def begin(self):
        run("systemctl", "start", "ser2net.service")

    def end(self):
        run("systemctl", "stop", "ser2net.service")

    def client(self, port):
        return ["socat", "STDIN,rawer!!STDOUT", f"TCP:127.0.0.1:{self.tcp(port)},nodelay"]

    def log(self, port):
        return f"/var/log/ser2net/{self.port(port)}.log"

    def revive(self):
        run("systemctl", "restart", "ser2net.service")
