import subprocess
import sys


def test_settings_import_nothing_heavy():
    code = (
        "import sys, mlc.translation.settings, mlc.translation.translator, mlc.translation.identity;"
        "import mlc.translation.engines.seq2seq, mlc.making.quickstart;"
        "print(sorted({'torch', 'transformers', 'sentencex'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
