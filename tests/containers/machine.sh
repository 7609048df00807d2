# What the first process of the tests' own container engine does: it makes the folder $1, a Debian system, the root of
# its namespaces, and becomes dockerd. $2 is where images and containers lie, $3 a folder that both sides see under
# the same name, $4 the cgroup of all containers. It runs in a mount namespace of its own: nothing here is seen outside.
set -eu
root=$1 data=$2 shared=$3 cgroup=$4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
for folder in run tmp; do
    mount -t tmpfs tmpfs "$root/$folder"
done
mkdir -p "$root/var/lib/docker" "$root/run/outside" "$root$shared"
mount --bind "$data" "$root/var/lib/docker"
mount --bind "$shared" "$root$shared"
cat /etc/resolv.conf > "$root/run/resolv.conf"
cd "$root"
pivot_root . run/outside
umount -l /run/outside
ip link set lo up
# 10.0.2.3 is slirp4netns, which asks the name servers in /etc/resolv.conf.
exec env -i PATH=/usr/sbin:/usr/bin HOME=/root dockerd --dns 10.0.2.3 --cgroup-parent "$cgroup"
