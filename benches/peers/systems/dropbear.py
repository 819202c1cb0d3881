"""dropbear, whose forced command leads each port's key to the socket of a dtach, under which a picocom holds and logs the port."""

import os

from system import HERE, System, account, run, ssh, write


class Dropbear(System):
    name = "dropbear-dtach"
    title = "dropbear + dtach + picocom"
    packages = ("dropbear", "dtach", "picocom")
    units = ("dropbear.service", "picocom@")
    first = 600
    encrypted = True

    def _services(self):
        return [f"picocom@{self.port(number)}.service" for number in range(len(self.devices))]

    def configure(self):
        run("systemctl", "stop", "dropbear.service")
        account("dtach", self.fill("dropbear.authorized_keys"))
        run("install", "-d", "-o", "dtach", "/var/log/dtach")
        write("/etc/default/dropbear", "DROPBEAR_PORT=2222\n")
        with open(os.path.join(HERE, "picocom@.service")) as unit:
            write("/etc/systemd/system/picocom@.service", unit.read())
        run("systemctl", "daemon-reload")

    def begin(self):
        run("systemctl", "start", "dropbear.service", *self._services())

    def end(self):
        run("systemctl", "stop", "dropbear.service", *self._services())

    def client(self, port):
        return ssh("dtach", 2222, self.key(port))

    def listener(self):
        return 2222

    def log(self, port):
        return f"/var/log/dtach/{self.port(port)}.log"
