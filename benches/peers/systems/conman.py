"""ConMan, which has no encryption."""

from system import OneService, write


class Conman(OneService):
    name = "conman"
    title = "conman, no encryption"
    packages = ("conman",)
    units = ("conman.service",)
    first = 300
    client_wants_terminal = True

    def configure(self):
        self.end()
        write("/etc/conman.conf", self.fill("conman.conf"))

    def client(self, port):
        return ["conman", "-d", "127.0.0.1:7890", "-f", self.port(port)]

    def watcher(self, port):
        return ["conman", "-d", "127.0.0.1:7890", "-m", self.port(port)]

    def listener(self):
        return 7890

    def log(self, port):
        return f"/var/log/conman/{self.port(port)}.log"

    def revive(self):
        self.restart()
