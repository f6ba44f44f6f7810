drop table licenses, subscription_plans;
