#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vgpuctl's commands and options are the same in its help, its manual page, its completion and the program. Prints TAP.

usage: test_words.py VGPUCTL
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MAN = os.path.join(HERE, "../../Documentation/man/vgpuctl.8")
COMPLETION = os.path.join(HERE, "vgpuctl.bash-completion")
# Letters for the eye, words for completion; that the program takes both for the same is tried below.
WORDS = {"-p": "--paused", "-e": "--no-follow", "-F": "--foreground", "-r": "--reboot", "-d": "--delay", "-n": "--count"}
WITH_VALUE = {"--timeout", "--delay", "--count"}

count = failed = 0


def ok(passed, what, detail=""):
    global count, failed
    count += 1
    failed += not passed
    print(f"{'' if passed else 'not '}ok {count} - {what}")
    if not passed:
        print("# " + str(detail))


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def options(text):
    return {WORDS.get(o, o) for o in re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][\w-]*", text)}


def of_help(vgpuctl):
    text = subprocess.run([vgpuctl, "help"], capture_output=True, text=True, check=True).stdout.split("\n\n")[1]
    lines = re.findall(r"^  (\S+)((?: \S+)*)", text, re.MULTILINE)
    return {name: options(rest) | (set() if name in ("daemon", "help") else {"--json"}) for name, rest in lines}


def of_man():
    synopsis = re.search(r"\n\.SH SYNOPSIS\n(.*?)\n\.SH ", read(MAN), re.DOTALL).group(1)
    lines = re.findall(r"^\.B vgpuctl (\S+)(.*)", re.sub(r"\\f.", "", synopsis).replace("\\-", "-"), re.MULTILINE)
    return {name: options(rest) for name, rest in lines}


def complete(*words):
    script = '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vgpuctl; printf "%s\\n" "${COMPREPLY[@]}"'
    out = subprocess.run(["bash", "-c", script, COMPLETION, "vgpuctl", *words], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def main(vgpuctl):
    sources = [read(os.path.join(HERE, "vgpuctl", f)) for f in os.listdir(os.path.join(HERE, "vgpuctl")) if f.endswith(".c")]
    commands = set(re.findall(r'^\t\{ "([a-z][a-z-]*)", \w+_command \}', "".join(sources), re.MULTILINE))
    shown, manual = of_help(vgpuctl), of_man()
    for where, names in (("help", set(shown)), ("manual page", set(manual)), ("completion", complete(""))):
        ok(names == commands, f"the commands of the {where} are the program's", sorted(names ^ commands))
    for name in sorted(commands & set(shown) & set(manual)):
        completed = complete(name, "--")
        ok(shown[name] == manual[name] == completed, f"{name}: help, manual page and completion have the same options",
           f"help {sorted(shown[name])}, manual page {sorted(manual[name])}, completion {sorted(completed)}")
        if name == "help":
            continue
        # getopt stops at the first word that it does not know, before the command does anything.
        wrong = []
        both = shown[name] | {letter for letter, word in WORDS.items() if word in shown[name] and name != "daemon"}
        for option in sorted(both) + [None]:
            value = ["1"] if option and WORDS.get(option, option) in WITH_VALUE else []
            run = subprocess.run([vgpuctl, name] + ([option] if option else []) + value + ["--no-such"], capture_output=True,
                                 text=True, check=False, timeout=20)
            if run.returncode != 2 or "'--no-such'" not in run.stderr:
                wrong.append((option, run.returncode, run.stderr))
        ok(not wrong, f"{name}: the program takes them, and no other, which is status 2", wrong)
    known = set(re.findall(r'\{ "([\w-]+)", (?:no|required)_argument', "".join(sources)))
    told = {o[2:] for some in shown.values() for o in some}
    ok(known == told, "the program has no option that nobody is told of", sorted(known ^ told))
    print(f"1..{count}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
