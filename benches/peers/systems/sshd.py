"""OpenSSH's sshd, as Debian runs it, with picocom as the forced command of each port's key. It logs while a client is attached."""

from system import OneService, account, run, ssh


class Sshd(OneService):
    name = "sshd-picocom"
    title = "sshd + picocom"
    packages = ("openssh-server", "picocom")
    units = ("ssh.service", "ssh.socket")
    first = 500
    encrypted = True
    logs_alone = False
    shares = False

    def configure(self):
        account("picocom", self.fill("sshd.authorized_keys"))
        run("install", "-d", "-o", "picocom", "/var/log/picocom")
        # What Debian starts with the first login of a user and ends after the last: not again for each of our logins.
        run("loginctl", "enable-linger", "picocom")

    def client(self, port):
        return ssh("picocom", 22, self.key(port))

    def listener(self):
        return 22

    def log(self, port):
        return f"/var/log/picocom/{self.port(port)}.log"
