# shellcheck shell=bash
# QOS, accounts, users and their shares, as a small site would have them. Run once on
# a fresh database: what somebody changes afterwards stays changed.

#                    root
#           nlp (60)         vision (40)
#   pretrain  finetune       vision-seg
#     u1 u2      u1 u2           u3  vision-seg-medical
#                                         u3 u4          and u1 also in vision itself

# accounting ... : sacctmgr's own words are shown only when it fails. "Nothing new added" is
# how it says that an interrupted run had come this far.
accounting() {
    local out
    out=$(slurm sacctmgr -i -Q "$@" 2>&1) || [[ $out == *"Nothing "* || $out == *"already exists"* ]] ||
        die "sacctmgr $* failed: $out"
}

make_cluster_record() { accounting add cluster "$NAME"; }

make_accounts() {
    # The GPU's TRES come into being when slurmctld first registers.
    wait_for 20 "the database's list of TRES" "$STATE/log/slurmdbd.log" gpu_tres_known

    accounting modify qos normal set Priority=10 Description="the default"
    accounting add qos low Priority=1 Description="may be preempted by high" GraceTime=10
    accounting add qos high Priority=100 Description="deadlines; preempts low" Preempt=low
    accounting add qos debug Priority=50 Description="short and small" MaxWall=30 \
        MaxTRESPerUser=gres/gpu=2 Flags=DenyOnLimit
    accounting modify account root set QOS=normal,low,high,debug DefaultQOS=normal

    accounting add account nlp Parent=root Fairshare=60 Priority=10 Description="language" Organization=lab
    accounting add account vision Parent=root Fairshare=40 Priority=10 Description="vision" Organization=lab
    accounting add account nlp-pretrain Parent=nlp Fairshare=70 Priority=20 Description="pre-training" Organization=lab
    accounting add account nlp-finetune Parent=nlp Fairshare=30 Priority=10 Description="fine-tuning" Organization=lab
    accounting add account vision-seg Parent=vision Fairshare=50 Priority=10 Description="segmentation" Organization=lab
    accounting add account vision-seg-medical Parent=vision-seg Fairshare=50 Priority=10 \
        Description="medical images" Organization=lab

    # The first account named is the default one.
    accounting add user u1 Account=nlp-pretrain,nlp-finetune,vision DefaultAccount=nlp-pretrain Fairshare=10
    accounting add user u2 Account=nlp-finetune,nlp-pretrain DefaultAccount=nlp-finetune Fairshare=20
    accounting add user u3 Account=vision-seg,vision-seg-medical DefaultAccount=vision-seg Fairshare=10
    accounting add user u4 Account=vision-seg-medical DefaultAccount=vision-seg-medical Fairshare=10
    # u4 is a student: no high.
    accounting modify user where name=u4 set QOS=normal,low,debug
}

gpu_tres_known() { [[ $(slurm sacctmgr -n -P list tres) == *"gres|gpu:h100|"* ]]; }
