# sh test.sh
set -eu
cd "$(dirname "$0")"
answer=$(echo "one two three" | ./count)
if [ "$answer" != '{"words":3}' ]; then
	echo "got $answer"
	exit 1
fi
if ./count </dev/null 2>/dev/null; then
	echo "an empty event passes"
	exit 1
fi
echo "passed"
