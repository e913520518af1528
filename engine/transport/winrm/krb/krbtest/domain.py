"""Makes a domain of Samba in a folder: domain.py provision FOLDER REALM, with accounts
as JSON on stdin; domain.py attempts FOLDER USER prints badPwdCount."""
import json
import logging
import sys

import samba.dckeytab  # gives Net its export_keytab
import samba.dsdb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.net import Net
from samba.param import LoadParm
from samba.provision import provision
from samba.samdb import SamDB

verb, folder = sys.argv[1:3]
conf = folder + "/dc/etc/smb.conf"


def database():
    lp = LoadParm()
    lp.load(conf)
    db = SamDB(url=folder + "/dc/private/sam.ldb", session_info=system_session(), lp=lp)
    return lp, db


def modify(db, dn, **values):
    text = "dn: %s\nchangetype: modify\n" % dn
    for name, value in values.items():
        text += "replace: %s\n" % name + "".join("%s: %s\n" % (name, v) for v in value) + "-\n"
    db.modify_ldif(text)


def accounts(lp, db, wanted):
    for a in wanted:
        if a["spns"]:
            db.newcomputer(a["name"], service_principal_name_list=a["spns"])
            name = a["name"] + "$"
        else:
            db.newuser(a["name"], a["password"])
            name = a["name"]
        dn = db.search(expression="(sAMAccountName=%s)" % name)[0].dn
        modify(db, dn, **{"msDS-SupportedEncryptionTypes": [a["etypes"]]})
        # again: keys are made when the password is set, by the types that are allowed then
        db.setpassword("(sAMAccountName=%s)" % name, a["password"], force_change_at_next_login=a["change"])
        if a["control"]:
            control = int(db.search(base=dn, attrs=["userAccountControl"])[0]["userAccountControl"][0])
            modify(db, dn, userAccountControl=[control | a["control"]])
        if a["keytab"]:
            creds = Credentials()
            creds.guess(lp)
            Net(creds, lp).export_keytab(keytab=folder + "/" + a["keytab"], principal=a["spns"][0] if a["spns"] else a["name"])


if verb == "attempts":
    _, db = database()
    print(db.search(expression="(sAMAccountName=%s)" % sys.argv[3], attrs=["badPwdCount"])[0].get("badPwdCount", ["0"])[0])
else:
    realm = sys.argv[3]
    logger = logging.getLogger()
    logger.setLevel(logging.ERROR)
    lp = LoadParm()
    lp.set("interfaces", "lo")
    lp.set("bind interfaces only", "yes")
    lp.set("vfs objects", "")
    provision(logger, system_session(), targetdir=folder + "/dc", realm=realm, domain=realm.split(".")[0],
              hostname="dc1", hostip="127.0.0.1", adminpass="Adm1n-Pass.42", serverrole="active directory domain controller",
              dns_backend="NONE", lp=lp, dom_for_fun_level=samba.dsdb.DS_DOMAIN_FUNCTION_2008_R2)
    with open(conf, "w") as f:
        f.write("""[global]
realm = {realm}
workgroup = {domain}
netbios name = DC1
server role = active directory domain controller
server services = kdc
kpasswd port = 0
interfaces = lo
bind interfaces only = yes
private dir = {folder}/dc/private
state directory = {folder}/dc/state
lock directory = {folder}/dc
cache directory = {folder}/dc/cache
pid directory = {folder}
ncalrpc dir = {folder}/n
log file = {folder}/kdc.log
log level = 1 kdc:3
max log size = 0
""".format(realm=realm, domain=realm.split(".")[0], folder=folder))
    lp, db = database()
    modify(db, db.domain_dn(), lockoutThreshold=[3])
    accounts(lp, db, json.load(sys.stdin))
