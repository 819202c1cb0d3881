"""The systems under test, in the order of the tables."""

from systems.conman import Conman
from systems.conserver import Conserver, ConserverTls
from systems.consoleserver import Consoleserver
from systems.dropbear import Dropbear
from systems.ser2net import Ser2net
from systems.sshd import Sshd

ALL = [Consoleserver, Conserver, ConserverTls, Conman, Ser2net, Sshd, Dropbear]
