# shellcheck shell=bash
# Four ordinary people, the same uids in every world so that files can be compared.

USERS=(u1 u2 u3 u4)
FIRST_UID=6001

make_users() {
    local i user uid have
    for i in "${!USERS[@]}"; do
        user=${USERS[i]}
        uid=$(( FIRST_UID + i ))
        if have=$(in_world id -u "$user" 2>/dev/null); then
            [[ $have == "$uid" ]] || die "user $user exists with uid $have, but the cluster needs it with $uid." \
                "It is left alone: rename it, or use another machine."
        else
            in_world useradd --create-home --user-group --uid "$uid" --shell /bin/bash "$user"
        fi
        # slurmd enters the folder as the user; a job whose folder it cannot enter is
        # lost without a word.
        chmod 755 "$ROOT/home/$user"
    done
}
